//! Who asks for something.

use fanfare_core::name::Name;

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An operator at the command line, who has the passwords of the database and the broker.
    Operator,
    /// A System Administrator who is signed in.
    Administrator(Name),
    /// Any other user who is signed in.
    User(Name),
}

impl Actor {
    /// Whether the actor may see and change what belongs to this owner's webhooks.
    #[must_use]
    pub fn may_manage(&self, owner: Option<&str>) -> bool {
        match self {
            Self::Operator | Self::Administrator(_) => true,
            Self::User(name) => owner.and_then(Name::parse).is_some_and(|owner| owner == *name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_manages_only_what_is_the_users_own() {
        let name = |text: &str| Name::parse(text).unwrap();
        let user = Actor::User(name("anna"));
        assert!(user.may_manage(Some("Anna")));
        assert!(!user.may_manage(Some("bob")));
        assert!(!user.may_manage(None));
        for all in [Actor::Operator, Actor::Administrator(name("root"))] {
            assert!(all.may_manage(Some("bob")) && all.may_manage(None));
        }
    }
}
