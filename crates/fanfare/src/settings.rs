//! Settings: from flags, else the environment, else `fanfare.toml`, else the default.
//!
//! The only module that reads the environment. [`Settings`] declares each setting once, as an
//! argument of clap's: its option, its environment variable, its default, what it does (`help`) and
//! what a value must be (`long_help`, to follow "give"). Flags, help, `fanfare config` and the
//! documents come from that. Every value is of its type, or the program has ended with an error that
//! names the setting, where it was set, and what it should look like.

#[cfg(test)]
mod document;
mod error;
mod file;
mod flags;
mod local_keys;
mod resolve;
mod sections;
mod setting;
mod sign_in;
mod traces;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};
use fanfare_core::mask::MaskPolicy;

pub(crate) use error::SettingsError;
pub(crate) use flags::Flags;
pub(crate) use local_keys::LocalKeys;
pub(crate) use resolve::{Resolved, Source};
pub(crate) use sections::{Directory, Load, Log, Receivers, Sending, Telemetry};
pub(crate) use setting::Setting;
pub(crate) use sign_in::SignIn;
pub(crate) use value::Keys;

use resolve::Environment;
use sections::Servers;
use value::by;

/// All settings, read and checked.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    servers: Servers,
    /// Where the console and the API listen
    #[arg(long, env = "FANFARE_CONSOLE_LISTEN", value_name = "ADDRESS")]
    #[arg(help_heading = "Console", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = by(value::listen))]
    #[arg(long_help = "an address with a port, such as 127.0.0.1:8080 or [::]:8080")]
    pub(crate) console_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) sign_in: SignIn,
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
    #[command(flatten)]
    pub(crate) receivers: Receivers,
    #[command(flatten)]
    pub(crate) sending: Sending,
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// What of an event's data is replaced by *** before it is stored or sent: the passwords in
    /// connection strings, and the values that JSON paths name in events of a filter
    #[arg(long, env = "FANFARE_MASK", value_name = "RULES", default_value = "connection-strings")]
    #[arg(help_heading = "What is kept from receivers", value_parser = MaskPolicy::parse)]
    #[arg(
        long_help = "off, or a list of connection-strings and filter:path, separated by commas, \
        such as connection-strings,reports:$.Owner.Email"
    )]
    pub(crate) mask: MaskPolicy,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) log: Log,
    /// Each setting as it was given.
    #[arg(skip)]
    pub(crate) resolved: Vec<Resolved>,
    #[arg(skip)]
    local_keys: Option<LocalKeys>,
}

impl Settings {
    /// Reads the settings of this process.
    pub(crate) fn load(flags: &Flags) -> Result<Self, SettingsError> {
        Self::from_sources(flags, &|name| std::env::var_os(name))
    }

    fn from_sources(flags: &Flags, environment: Environment<'_>) -> Result<Self, SettingsError> {
        let resolved = resolve::resolve(flags, environment)?;
        let matches = resolve::parse(&resolved)?;
        let mut settings = Self::from_arg_matches(&matches)
            .map_err(|error| SettingsError::Unreadable(error.kind()))?;
        let directory = |name: &str| environment(name).map(PathBuf::from);
        settings.local_keys = LocalKeys::new(directory("XDG_STATE_HOME"), directory("HOME"));
        let log = resolved.iter().find(|one| one.setting.key() == "log");
        settings.log.chosen = log.is_some_and(|one| one.source != Source::Default);
        settings.log.colours = may_colour(environment);
        settings.resolved = resolved;
        Ok(settings)
    }

    /// The database's URL, for a command that can't do without.
    pub(crate) fn database_url(&self) -> Result<&str, SettingsError> {
        self.servers.database_url.as_deref().ok_or_else(|| SettingsError::missing("database_url"))
    }

    /// The broker's URL, for a command that can't do without.
    pub(crate) fn amqp_url(&self) -> Result<&str, SettingsError> {
        self.servers.amqp_url.as_deref().ok_or_else(|| SettingsError::missing("amqp_url"))
    }

    /// The machine's own key file, which is used because no keys are set.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        let local = self.local_keys.as_ref().filter(|_| self.servers.secret_keys.is_none())?;
        Some(local.path())
    }

    /// The keys that encrypt secrets; makes the machine's own when none are set and none is there.
    pub(crate) fn keys(&self) -> Result<Keys, SettingsError> {
        if let Some(keys) = &self.servers.secret_keys {
            return Ok(keys.clone());
        }
        let local = self.local_keys.as_ref().ok_or(SettingsError::NoKeys)?;
        let (keys, created) = local.read_or_create()?;
        let path = local.path();
        let path = path.display();
        if created {
            tracing::warn!(
                "made a key that encrypts secrets, in {path}: keep a copy of it, and where Fanfare \
                 runs on more than one machine, set FANFARE_SECRET_KEYS to its contents on all of them"
            );
        } else {
            tracing::debug!("using the keys in {path}, since FANFARE_SECRET_KEYS is not set");
        }
        Ok(keys)
    }
}

/// Whether the environment leaves colours to the program: `NO_COLOR` (<https://no-color.org>), when
/// it is not empty, and a terminal that has none refuse them.
fn may_colour(environment: Environment<'_>) -> bool {
    let refused = environment("NO_COLOR").is_some_and(|text| !text.is_empty());
    let dumb = environment("TERM").is_some_and(|text| text == "dumb");
    !refused && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::retry::RetryPolicy;
    use fanfare_core::target::TargetPolicy;

    fn load(flags: &[(&str, &str)]) -> Settings {
        let environment = |name: &str| (name == "HOME").then(|| "/nowhere".into());
        Settings::from_sources(&Flags::with(flags), &environment).unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_policies() {
        let settings = load(&[]);
        assert_eq!(settings.sending.retry_policy(), RetryPolicy::default());
        assert_eq!(settings.receivers.allow_targets, TargetPolicy::default());
        assert_eq!(settings.mask, MaskPolicy::default());
        assert_eq!(settings.telemetry.metrics_listen, None);
        assert!(!settings.directory.pass_gaps && !settings.log.json && !settings.log.chosen);
    }

    #[test]
    fn keys_from_the_setting_are_used() {
        let keys = vec![("k".to_owned(), [5; 32])];
        let settings = load(&[("secret_keys", &value::write_keys(&keys))]);
        assert_eq!(settings.keys().unwrap(), keys);
        assert_eq!(settings.key_file(), None);
    }
}
