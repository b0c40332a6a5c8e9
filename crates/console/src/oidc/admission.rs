//! Whether somebody whom a provider vouches for may come in.
//!
//! The provider says who somebody is, the report server's directory who there is. It is asked again
//! with every request, so that a user who is disabled there is out at once.

use fanfare_core::name::Name;
use fanfare_store::directory::UserStatus;
use fanfare_store::sessions::Standing;

use super::claims::Person;
use crate::auth::caller::Caller;

/// Why somebody may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The directory has no user of this name.
    Unknown(Name),
    /// The user is disabled there.
    Disabled(Name),
}

/// Decides it. Administrators need not be in the directory: somebody has to be there before it is.
pub(crate) fn admit(person: Person, standing: Standing) -> Result<Caller, NotAdmitted> {
    let Person { name, administrator } = person;
    match standing.status {
        UserStatus::Disabled => Err(NotAdmitted::Disabled(name)),
        UserStatus::Deleted if !administrator => Err(NotAdmitted::Unknown(name)),
        UserStatus::Enabled | UserStatus::Deleted => {
            Ok(Caller { name, administrator: administrator || standing.administrator })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_decides_who_comes_in() {
        let name = || Name::parse("anna").unwrap();
        let admitted = |claimed, status, listed| {
            let person = Person { name: name(), administrator: claimed };
            admit(person, Standing { status, administrator: listed }).map(|it| it.administrator)
        };
        assert_eq!(admitted(false, UserStatus::Enabled, false), Ok(false));
        assert_eq!(admitted(true, UserStatus::Enabled, false), Ok(true));
        assert_eq!(admitted(false, UserStatus::Enabled, true), Ok(true));
        assert_eq!(admitted(true, UserStatus::Deleted, false), Ok(true));
        let unknown = Err(NotAdmitted::Unknown(name()));
        assert_eq!(admitted(false, UserStatus::Deleted, false), unknown);
        let disabled = Err(NotAdmitted::Disabled(name()));
        assert_eq!(admitted(true, UserStatus::Disabled, false), disabled);
    }
}
