//! What the values of settings look like.

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// What it is called in the help.
    pub(crate) name: &'static str,
    /// What it looks like, to follow "give".
    pub(crate) text: &'static str,
}

/// A form with its name in the help.
pub(super) const fn form(name: &'static str, text: &'static str) -> Form {
    Form { name, text }
}

/// How long something takes.
pub(super) const DURATION: Form =
    form("DURATION", "a whole number with a unit, such as 500ms, 5s, 2m, 12h or 3d");
/// How many there are.
pub(super) const COUNT: Form = form("N", "a whole number, at least 1");
