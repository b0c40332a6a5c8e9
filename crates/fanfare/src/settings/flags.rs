//! Settings as options of every command. The help of one command lists them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::Setting;

/// The option that names the settings file.
const CONFIG: &str = "config";

/// The order of a setting's sources, for the help that lists the settings.
const ORDER: &str = "\
Fanfare uses the first of these that is set: the option, the environment variable, the file that \
the variable with the suffix _FILE names, the key in fanfare.toml, the default.";

/// Settings given as options.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// The settings file, if one was named.
    pub(super) config: Option<PathBuf>,
    /// Values by key.
    pub(super) values: BTreeMap<String, String>,
}

impl Flags {
    /// Adds the options to every command of the program.
    pub(crate) fn add_to(fanfare: Command) -> Command {
        let config = config().global(true).hide(true);
        fanfare.arg(config).args(Setting::all().map(Setting::into_flag))
    }

    /// Adds the options to the command that lists them in its help.
    pub(crate) fn list_in(command: Command) -> Command {
        command.arg(config()).args(Setting::all().map(Setting::into_listed)).after_help(ORDER)
    }

    /// The options in the arguments of the program or of one of its commands.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let given = |setting: Setting| {
            let value = matches.get_raw(setting.key())?.next()?.to_str()?;
            Some((setting.key().to_owned(), value.to_owned()))
        };
        Self {
            config: matches.get_one(CONFIG).cloned(),
            values: Setting::all().filter_map(given).collect(),
        }
    }

    #[cfg(test)]
    pub(super) fn with(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { config: None, values: values.collect() }
    }
}

fn config() -> Arg {
    Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The settings file [env: FANFARE_CONFIG] [default: fanfare.toml, if it exists]")
}
