//! Whether somebody may come in, with a local account or vouched for by a provider.
//!
//! The account or the provider says who somebody is, the report server's directory who there is. It
//! is asked again with every request, so that a user who is disabled or deleted there is out at
//! once.

use fanfare_core::name::Name;
use fanfare_store::directory::UserStatus;
use fanfare_store::sessions::DirectoryStatus;

use super::claims::Person;

/// Who says who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// A local account.
    Account,
    /// An identity provider.
    Provider,
}

/// Why somebody may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The directory has no user of this name.
    Unknown(Name),
    /// The user is disabled there.
    Disabled(Name),
}

/// Decides it, and whether it is an administrator by the directory too. Somebody has to be there before the directory is, so administrators whom it never
/// named come in, and so do local accounts, which an operator made.
pub(crate) fn admit(
    person: Person,
    authority: Authority,
    standing: DirectoryStatus,
) -> Result<Person, NotAdmitted> {
    let Person { name, administrator } = person;
    let is_vouched_for = administrator || authority == Authority::Account;
    let needs_no_directory = !standing.known && is_vouched_for;
    match standing.status {
        UserStatus::Disabled => Err(NotAdmitted::Disabled(name)),
        UserStatus::Deleted if !needs_no_directory => Err(NotAdmitted::Unknown(name)),
        UserStatus::Enabled | UserStatus::Deleted => {
            Ok(Person { name, administrator: administrator || standing.administrator })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLED: DirectoryStatus =
        DirectoryStatus { status: UserStatus::Enabled, known: true, administrator: false };
    const DISABLED: DirectoryStatus = DirectoryStatus { status: UserStatus::Disabled, ..ENABLED };
    const DELETED: DirectoryStatus = DirectoryStatus { status: UserStatus::Deleted, ..ENABLED };
    const NEVER_NAMED: DirectoryStatus = DirectoryStatus { known: false, ..DELETED };

    /// Whether somebody comes in, and as an administrator.
    fn admitted(claimed: bool, authority: Authority, standing: DirectoryStatus) -> Option<bool> {
        let person = Person { name: Name::parse("anna").unwrap(), administrator: claimed };
        admit(person, authority, standing).ok().map(|it| it.administrator)
    }

    #[test]
    fn users_come_in_while_the_directory_has_them_enabled() {
        for authority in [Authority::Account, Authority::Provider] {
            assert_eq!(admitted(false, authority, ENABLED), Some(false));
            assert_eq!(admitted(true, authority, ENABLED), Some(true));
            let listed = DirectoryStatus { administrator: true, ..ENABLED };
            assert_eq!(admitted(false, authority, listed), Some(true));
            for claimed in [false, true] {
                assert_eq!(admitted(claimed, authority, DISABLED), None);
                assert_eq!(admitted(claimed, authority, DELETED), None);
            }
        }
    }

    #[test]
    fn whom_the_directory_never_named_comes_in_as_administrator_or_with_an_account() {
        assert_eq!(admitted(true, Authority::Account, NEVER_NAMED), Some(true));
        assert_eq!(admitted(false, Authority::Account, NEVER_NAMED), Some(false));
        assert_eq!(admitted(true, Authority::Provider, NEVER_NAMED), Some(true));
        assert_eq!(admitted(false, Authority::Provider, NEVER_NAMED), None);
    }
}
