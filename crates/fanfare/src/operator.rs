//! The operator who runs a command, for permissions and for the audit trail.

use fanfare_app::Actor;
use fanfare_core::audit::{Author, Door, Via};

use crate::settings::Settings;

/// The longest name that is recorded, in characters.
const LONGEST: usize = 256;

/// The operator: the user who called sudo, or else the user of the process. The address is the
/// process's user and host.
pub(crate) fn operator() -> Actor {
    let unknown = || "unknown".to_owned();
    let user = whoami::username().unwrap_or_else(|_| unknown());
    let host = whoami::hostname().unwrap_or_else(|_| unknown());
    let name = Settings::sudo_user().unwrap_or_else(|| user.clone());
    let address = Some(clean(&format!("{user}@{host}")));
    Actor::of_operator(&clean(&name), Via { address, ..Via::door(Door::Cli) })
}

/// The operator as the author of what a command does.
pub(crate) fn author() -> Author {
    operator().author()
}

/// A name of the operating system as it can be stored and shown.
fn clean(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_a_name_and_an_address() {
        let author = author();
        assert!(author.actor.is_some_and(|name| !name.is_empty()));
        assert!(author.via.address.is_some_and(|address| address.contains('@')));
        assert_eq!(clean("a\0b\n"), "ab");
    }
}
