//! Whether somebody may come in, with a local account or vouched for by a provider.
//!
//! The account or the provider says who somebody is, the report server's directory who there is. It
//! is asked again with every request, so that a user who is disabled or deleted there is out at
//! once.

use fanfare_core::name::Name;
use fanfare_store::directory::UserStatus;
use fanfare_store::sessions::Standing;

use super::claims::Person;
use crate::auth::caller::Caller;

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

/// Decides it. Administrators whom the directory never named come in: somebody has to be there
/// before it is. For the same reason, any local account works until the directory is complete.
pub(crate) fn admit(
    person: Person,
    authority: Authority,
    standing: Standing,
) -> Result<Caller, NotAdmitted> {
    let Person { name, administrator } = person;
    let is_early = authority == Authority::Account && !standing.complete;
    let needs_no_directory = !standing.known && (administrator || is_early);
    match standing.status {
        UserStatus::Disabled => Err(NotAdmitted::Disabled(name)),
        UserStatus::Deleted if !needs_no_directory => Err(NotAdmitted::Unknown(name)),
        UserStatus::Enabled | UserStatus::Deleted => {
            Ok(Caller { name, administrator: administrator || standing.administrator })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLED: Standing =
        Standing { status: UserStatus::Enabled, known: true, complete: true, administrator: false };
    const DISABLED: Standing = Standing { status: UserStatus::Disabled, ..ENABLED };
    const DELETED: Standing = Standing { status: UserStatus::Deleted, ..ENABLED };
    const NEVER_NAMED: Standing = Standing { known: false, ..DELETED };
    const BEFORE_ANY: Standing = Standing { complete: false, ..NEVER_NAMED };

    /// Whether somebody comes in, and as an administrator.
    fn admitted(claimed: bool, authority: Authority, standing: Standing) -> Option<bool> {
        let person = Person { name: Name::parse("anna").unwrap(), administrator: claimed };
        admit(person, authority, standing).ok().map(|it| it.administrator)
    }

    #[test]
    fn users_come_in_while_the_directory_has_them_enabled() {
        for authority in [Authority::Account, Authority::Provider] {
            assert_eq!(admitted(false, authority, ENABLED), Some(false));
            assert_eq!(admitted(true, authority, ENABLED), Some(true));
            let listed = Standing { administrator: true, ..ENABLED };
            assert_eq!(admitted(false, authority, listed), Some(true));
            for claimed in [false, true] {
                assert_eq!(admitted(claimed, authority, DISABLED), None);
                assert_eq!(admitted(claimed, authority, DELETED), None);
            }
        }
    }

    #[test]
    fn users_whom_the_directory_never_named_come_in_as_administrators_only() {
        for authority in [Authority::Account, Authority::Provider] {
            assert_eq!(admitted(true, authority, NEVER_NAMED), Some(true));
            assert_eq!(admitted(false, authority, NEVER_NAMED), None);
        }
    }

    #[test]
    fn accounts_work_before_the_directory_is_complete() {
        assert_eq!(admitted(false, Authority::Account, BEFORE_ANY), Some(false));
        assert_eq!(admitted(false, Authority::Provider, BEFORE_ANY), None);
        let deleted = Standing { complete: false, ..DELETED };
        assert_eq!(admitted(false, Authority::Account, deleted), None);
    }
}
