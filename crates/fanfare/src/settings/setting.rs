//! A setting, as its clap argument declares it, and the list of all settings.

use clap::builder::{Resettable, ValueParser};
use clap::{Arg, Args as _, Command};

use super::Settings;
use super::mask::{self, Shown};

/// A setting: the argument that declares it.
#[derive(Debug, Clone)]
pub(crate) struct Setting(Arg);

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

    /// The default value; `None` if there is none.
    pub(crate) fn default(&self) -> Option<&str> {
        self.0.get_default_values().first()?.to_str()
    }

    /// The purpose of the setting, without a period at the end.
    pub(crate) fn about(&self) -> String {
        self.0.get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// The form of a value, to follow "give" in a message.
    pub(crate) fn form(&self) -> String {
        self.0.get_long_help().map(ToString::to_string).unwrap_or_default()
    }

    /// The section in which the setting is listed.
    #[cfg(test)]
    pub(super) fn section(&self) -> &str {
        self.0.get_help_heading().unwrap_or_default()
    }

    /// How much of a value may be shown. `hide_env_values` marks a secret.
    pub(super) fn shown(&self) -> Shown {
        let is_url = self.0.get_value_names().is_some_and(|names| names == ["URL"]);
        match (self.0.is_hide_env_values_set(), is_url) {
            (false, _) => Shown::Whole,
            (true, true) => Shown::WithoutPassword,
            (true, false) => Shown::Nothing,
        }
    }

    /// Masks the secret parts of a value. The default is not secret.
    pub(super) fn mask(&self, text: &str) -> String {
        let is_default = self.default() == Some(text);
        mask::mask(text, if is_default { Shown::Whole } else { self.shown() })
    }

    /// The argument with the parser of its value. It does not read the environment:
    /// [`resolve`](super::resolve) does.
    pub(super) fn into_argument(self) -> Arg {
        self.0.env(Resettable::Reset)
    }

    /// The setting as a hidden option of every command, which accepts any text. The settings are
    /// listed in the help of one command only, so that the help of the others stays short. The option
    /// does not read the environment, because clap counts a variable as an argument: a group without
    /// a command would then not show its help.
    pub(super) fn into_flag(self) -> Arg {
        let option = self.into_argument().default_value(Resettable::Reset);
        option.value_parser(ValueParser::string()).global(true).hide(true)
    }

    /// The setting as an option in the help that lists the settings. Its value is neither checked nor
    /// shown, so that the help works with any environment.
    pub(super) fn into_listed(self) -> Arg {
        let option = self.0.value_parser(ValueParser::os_string());
        option.hide_env_values(true).long_help(Resettable::Reset)
    }
}
