//! The audit trail: who did what, when, by which door and from where, with the state before and
//! after.
//!
//! [`Author`] is who did it. [`Entry`] is what was done; only the functions of this module make
//! one, from typed values. So no secret, no value of a header and no password can be in an entry:
//! a [`fingerprint()`] takes their place. The store writes an entry in the transaction of
//! the change that it is about.
//!
//! [`webhook`] makes the entries about webhooks, [`entry`] all others.

mod action;
pub mod entry;
mod fingerprint;
mod text;
pub mod webhook;

pub use action::Action;
pub use entry::{Entry, ObjectKind};
pub use fingerprint::fingerprint;

/// The way by which a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The pages of the console.
    Console,
    /// The drop-in API or `/api/v1`.
    Api,
    /// The command line.
    Cli,
    /// None: the service did it by itself.
    System,
}

impl Door {
    /// All doors.
    pub const ALL: [Self; 4] = [Self::Console, Self::Api, Self::Cli, Self::System];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::System => "system",
        }
    }

    /// The door with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.code() == code)
    }
}

/// The door of a request, and what is known about its sender's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub door: Door,
    /// The address of the client, or `user@host` of a command; `None` when it is not known.
    pub address: Option<String>,
    /// The id that a proxy gave the request, by which other logs name it.
    pub correlation: Option<String>,
}

impl Via {
    /// A request by this door, without an address.
    #[must_use]
    pub fn door(door: Door) -> Self {
        Self { door, address: None, correlation: None }
    }
}

/// The person or the part of the service that does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name as written; `None` for the service itself.
    pub actor: Option<String>,
    pub via: Via,
}

impl Author {
    /// The service itself.
    #[must_use]
    pub fn system() -> Self {
        Self { actor: None, via: Via::door(Door::System) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_read_back_from_their_codes() {
        for door in Door::ALL {
            assert_eq!(Door::parse(door.code()), Some(door));
        }
        assert_eq!(Door::parse("window"), None);
    }
}
