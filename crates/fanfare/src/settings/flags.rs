//! Every setting as a flag of every command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::table::SETTINGS;

/// The heading in the help under which settings stand.
const HEADING: &str = "Settings (also from the environment and fanfare.toml)";

/// The argument that names the settings file.
const CONFIG: &str = "config";

/// Settings given as flags.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    config: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
}

impl Flags {
    /// The settings file that was named.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The value of a setting, by key.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    #[cfg(test)]
    pub(crate) fn of(values: &[(&'static str, &str)]) -> Self {
        let values = values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Self { config: None, values }
    }
}

/// An option for the settings file, and one for each setting.
fn options() -> impl Iterator<Item = Arg> {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The settings file [env: FANFARE_CONFIG] [default: fanfare.toml, if it is there]");
    let settings = SETTINGS.iter().map(|setting| {
        let default = setting.default.filter(|text| !text.is_empty());
        let default = default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
        Arg::new(setting.name)
            .long(setting.flag)
            .value_name(setting.form.name)
            .help(format!("{} [env: {}]{default}", setting.about, setting.name))
    });
    std::iter::once(config).chain(settings)
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        // A command's help is about the command; one command lists the settings.
        command.args(options().map(|option| option.global(true).hide(true)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
            self.config = Some(path.clone());
        }
        for setting in SETTINGS {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.values.insert(setting.key, value.clone());
            }
        }
        Ok(())
    }
}

/// The same options where the help lists them.
#[derive(Debug)]
pub(crate) struct ListedFlags;

impl Args for ListedFlags {
    fn augment_args(command: Command) -> Command {
        command.args(options().map(|option| option.help_heading(HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ListedFlags {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}
