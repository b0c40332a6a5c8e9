//! A setting as its argument declares it, and the arguments of all of them.

use clap::builder::{Resettable, ValueParser};
use clap::{Arg, Args as _, Command};

use super::{Settings, value};

/// A setting: the argument that declares it.
#[derive(Debug, Clone)]
pub(crate) struct Setting(Arg);

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

impl Setting {
    /// All settings, in the order in which they are listed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let declared = Settings::augment_args(Command::new("settings"));
        declared.get_arguments().cloned().map(Self).collect::<Vec<_>>().into_iter()
    }

    /// The setting with this key.
    pub(super) fn by_key(key: &str) -> Option<Self> {
        Self::all().find(|setting| setting.key() == key)
    }

    /// The key in `fanfare.toml`.
    pub(crate) fn key(&self) -> &str {
        self.0.get_id().as_str()
    }

    /// The environment variable.
    pub(crate) fn name(&self) -> String {
        self.0.get_env().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The long option, without its dashes.
    pub(crate) fn flag(&self) -> &str {
        self.0.get_long().unwrap_or_default()
    }

    /// The value when it is not set; `None` when there is none.
    pub(crate) fn default(&self) -> Option<&str> {
        self.0.get_default_values().first()?.to_str()
    }

    /// What it does.
    pub(crate) fn about(&self) -> String {
        self.0.get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// What a value must be, to follow "give".
    pub(crate) fn form(&self) -> String {
        self.0.get_long_help().map(ToString::to_string).unwrap_or_default()
    }

    /// The section that it is listed in.
    #[cfg(test)]
    pub(super) fn section(&self) -> &str {
        self.0.get_help_heading().unwrap_or_default()
    }

    /// How much of a value may be shown: a secret is marked by `hide_env_values`.
    pub(super) fn shown(&self) -> Shown {
        let is_url = self.0.get_value_names().is_some_and(|names| names == ["URL"]);
        match (self.0.is_hide_env_values_set(), is_url) {
            (false, _) => Shown::Whole,
            (true, true) => Shown::WithoutPassword,
            (true, false) => Shown::Nothing,
        }
    }

    /// A value as it may be shown. A default is no secret.
    pub(super) fn mask(&self, text: &str) -> String {
        let is_default = self.default() == Some(text);
        value::mask(text, if is_default { Shown::Whole } else { self.shown() })
    }

    /// The argument with the parser of its value. The environment is read elsewhere.
    pub(super) fn into_argument(self) -> Arg {
        self.0.env(Resettable::Reset)
    }

    /// An option of every command, for any text. A command's help is about the command; one command
    /// lists the settings. The environment is not read here, since a variable would count as an
    /// argument: a group of commands alone shows its help only when it was given none.
    pub(super) fn into_flag(self) -> Arg {
        let option = self.into_argument().default_value(Resettable::Reset);
        option.value_parser(ValueParser::string()).global(true).hide(true)
    }

    /// The option where the help lists it, which needs no settings: what the environment holds is
    /// neither checked nor shown.
    pub(super) fn into_listed(self) -> Arg {
        let option = self.0.value_parser(ValueParser::os_string());
        option.hide_env_values(true).long_help(Resettable::Reset)
    }
}
