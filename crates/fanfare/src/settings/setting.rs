//! What is known of a setting.

use super::form::Form;

/// A setting: its three names, its default and what to say about it.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The environment variable.
    pub(crate) name: &'static str,
    /// The long flag, without its dashes.
    pub(crate) flag: &'static str,
    /// The key in `fanfare.toml`.
    pub(crate) key: &'static str,
    /// The value when it is not set; `None` when there is none.
    pub(crate) default: Option<&'static str>,
    /// How much of its value may be shown.
    pub(crate) shown: Shown,
    /// What a value must be.
    pub(crate) form: Form,
    /// What it does.
    pub(crate) about: &'static str,
}

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of it.
    Whole,
    /// A URL without its password.
    WithoutPassword,
    /// Nothing of it.
    Nothing,
}
