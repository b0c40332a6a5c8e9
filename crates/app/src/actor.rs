//! The actor: the person on whose behalf a use case runs.

use std::fmt;

use fanfare_core::audit::{Author, Via};
use fanfare_core::name::Name;

/// The person on whose behalf a use case runs, and the door by which the request came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    role: Role,
    via: Via,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// An operator at the command line, who has the passwords of the database and the broker. The
    /// name is that of the user of the operating system.
    Operator(String),
    /// A System Administrator who is signed in.
    Administrator(Name),
    /// Any other user who is signed in.
    User(Name),
}

/// The error of a use case that only an operator or a System Administrator may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only a System Administrator may do this")]
pub struct NotAdministrator;

impl Actor {
    /// An operator at the command line, by the name of the user of the operating system.
    #[must_use]
    pub fn of_operator(name: &str, via: Via) -> Self {
        Self { role: Role::Operator(name.to_owned()), via }
    }

    /// A System Administrator who is signed in.
    #[must_use]
    pub fn of_administrator(name: Name, via: Via) -> Self {
        Self { role: Role::Administrator(name), via }
    }

    /// Any other user who is signed in.
    #[must_use]
    pub fn of_user(name: Name, via: Via) -> Self {
        Self { role: Role::User(name), via }
    }

    /// The user who is signed in; `None` for an operator.
    #[must_use]
    pub fn user(&self) -> Option<&Name> {
        match &self.role {
            Role::Operator(_) => None,
            Role::Administrator(name) | Role::User(name) => Some(name),
        }
    }

    /// The author of what the actor does, for the audit trail.
    #[must_use]
    pub fn author(&self) -> Author {
        let name = match &self.role {
            Role::Operator(name) => name,
            Role::Administrator(name) | Role::User(name) => name.as_str(),
        };
        Author { actor: Some(name.to_owned()), via: self.via.clone() }
    }

    /// Whether the actor may see and change what belongs to any owner.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        matches!(self.role, Role::Operator(_) | Role::Administrator(_))
    }

    /// Whether the actor is an operator at the command line.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        matches!(self.role, Role::Operator(_))
    }

    /// Whether the actor is this user.
    #[must_use]
    pub fn is(&self, owner: &Name) -> bool {
        self.user() == Some(owner)
    }

    /// Whether the actor may see and change what belongs to this owner's webhooks.
    #[must_use]
    pub fn may_manage(&self, owner: Option<&str>) -> bool {
        let owner = owner.and_then(Name::parse);
        self.is_administrator() || owner.is_some_and(|owner| self.is(&owner))
    }

    /// Fails unless the actor is an operator or a System Administrator.
    ///
    /// # Errors
    ///
    /// [`NotAdministrator`]
    pub fn administrator(&self) -> Result<(), NotAdministrator> {
        if self.is_administrator() { Ok(()) } else { Err(NotAdministrator) }
    }

    /// Returns the owner to whose webhooks a query of the actor is limited, or `None` for all
    /// owners. `wanted` is the owner that the query names; without one, a query covers everything
    /// that the actor may see.
    ///
    /// # Errors
    ///
    /// [`NotAdministrator`]: a user asks about another user.
    pub fn owner_filter(&self, wanted: Option<Name>) -> Result<Option<Name>, NotAdministrator> {
        match (&self.role, wanted) {
            (Role::Operator(_) | Role::Administrator(_), wanted) => Ok(wanted),
            (Role::User(name), Some(wanted)) if wanted != *name => Err(NotAdministrator),
            (Role::User(name), _) => Ok(Some(name.clone())),
        }
    }
}

/// The user's name, or `operator`, for logs and for stored records of requests.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user().map_or("operator", Name::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::audit::Door;

    fn via() -> Via {
        Via::door(Door::Api)
    }

    fn all_seeing() -> [Actor; 2] {
        [Actor::of_operator("root", via()), Actor::of_administrator(name("root"), via())]
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_user_manages_only_the_users_own_webhooks() {
        let user = Actor::of_user(name("anna"), via());
        assert!(user.may_manage(Some("Anna")));
        assert!(!user.may_manage(Some("bob")));
        assert!(!user.may_manage(None));
        for all in all_seeing() {
            assert!(all.may_manage(Some("bob")) && all.may_manage(None));
        }
    }

    #[test]
    fn a_query_of_a_user_is_limited_to_the_users_own_webhooks() {
        let user = Actor::of_user(name("anna"), via());
        for wanted in [None, Some(name("ANNA"))] {
            assert_eq!(user.owner_filter(wanted), Ok(Some(name("anna"))));
        }
        assert_eq!(user.owner_filter(Some(name("bob"))), Err(NotAdministrator));
        for all in all_seeing() {
            assert_eq!(all.owner_filter(None), Ok(None));
            assert_eq!(all.owner_filter(Some(name("bob"))), Ok(Some(name("bob"))));
        }
    }
}
