//! Whether a user may sign in, with a local account or by an identity provider.
//!
//! The account or the provider identifies the user; the report server's directory says whether that
//! user exists. The directory is read again at every request, so that a user who is disabled or
//! deleted there loses access at once.

use fanfare_core::name::Name;
use fanfare_store::directory::UserStatus;
use fanfare_store::sessions::DirectoryStatus;

use super::claims::Person;

/// What identifies a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// A local account.
    Account,
    /// An identity provider.
    Provider,
}

/// Why a user may not sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The directory has no user of this name.
    Unknown(Name),
    /// The user is disabled in the directory.
    Disabled(Name),
}

/// Decides whether a person may sign in, and whether as an administrator, which the directory can
/// say as well. People must be able to sign in before the directory is imported. So administrators
/// who never were in the directory may sign in, and so may local accounts, because an operator made
/// those.
pub(crate) fn admit(
    person: Person,
    authority: Authority,
    directory: DirectoryStatus,
) -> Result<Person, NotAdmitted> {
    let Person { name, administrator } = person;
    let is_vouched_for = administrator || authority == Authority::Account;
    let needs_no_directory = !directory.known && is_vouched_for;
    match directory.status {
        UserStatus::Disabled => Err(NotAdmitted::Disabled(name)),
        UserStatus::Deleted if !needs_no_directory => Err(NotAdmitted::Unknown(name)),
        UserStatus::Enabled | UserStatus::Deleted => {
            Ok(Person { name, administrator: administrator || directory.administrator })
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

    /// `None` if the user may not sign in; otherwise, whether as an administrator.
    fn admitted(claimed: bool, authority: Authority, directory: DirectoryStatus) -> Option<bool> {
        let person = Person { name: Name::parse("anna").unwrap(), administrator: claimed };
        admit(person, authority, directory).ok().map(|it| it.administrator)
    }

    #[test]
    fn a_user_may_sign_in_while_enabled_in_the_directory() {
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
    fn a_user_who_never_was_in_the_directory_may_sign_in_as_administrator_or_with_an_account() {
        assert_eq!(admitted(true, Authority::Account, NEVER_NAMED), Some(true));
        assert_eq!(admitted(false, Authority::Account, NEVER_NAMED), Some(false));
        assert_eq!(admitted(true, Authority::Provider, NEVER_NAMED), Some(true));
        assert_eq!(admitted(false, Authority::Provider, NEVER_NAMED), None);
    }
}
