//! Settings, from flags, the environment, `fanfare.toml`, or the default, in this order.
//!
//! This module alone reads the environment. [`Settings`] declares each setting once, as an argument
//! of clap: its option, its environment variable, its default, its purpose (`help`) and the form of a
//! value (`long_help`, which follows the word "give" in messages). Flags, help, `fanfare config` and
//! the documents are made from these declarations. An invalid value ends the program with an error
//! that names the setting, its source, and the expected form.

mod bridge;
#[cfg(test)]
mod document;
mod error;
mod file;
mod flags;
mod local_keys;
mod mask;
mod notices;
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

pub(crate) use bridge::Bridge;
pub(crate) use error::SettingsError;
pub(crate) use flags::Flags;
pub(crate) use local_keys::LocalKeys;
pub(crate) use notices::Notices;
pub(crate) use resolve::{Resolved, Source};
pub(crate) use sections::{Directory, Load, Log, Receivers, Retention, Sending, Telemetry};
pub(crate) use setting::Setting;
pub(crate) use sign_in::SignIn;
pub(crate) use value::Keys;

use resolve::Environment;
use sections::Servers;
use value::{Networks, by};

/// All settings, parsed and checked.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    servers: Servers,
    /// The address at which the console and the API listen
    #[arg(long, env = "FANFARE_CONSOLE_LISTEN", value_name = "ADDRESS")]
    #[arg(help_heading = "Console", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = by(value::listen))]
    #[arg(long_help = "an address with a port, such as 127.0.0.1:8080 or [::]:8080")]
    pub(crate) console_listen: SocketAddr,
    /// The proxies in front of the console whose X-Forwarded-For is believed. The audit trail has the
    /// address that it names
    #[arg(long, env = "FANFARE_CONSOLE_PROXIES", value_name = "NETWORKS", default_value = "")]
    #[arg(help_heading = "Console", hide_default_value = true)]
    #[arg(value_parser = by(|text| value::networks(text).map(Networks)))]
    #[arg(long_help = "networks such as 10.1.0.0/16,127.0.0.1/32, separated by commas")]
    pub(crate) console_proxies: Networks,
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
    /// The parts of an event's data that are replaced by *** before the event is stored or sent:
    /// passwords in connection strings, and values that a JSON path selects in events of a filter
    #[arg(long, env = "FANFARE_MASK", value_name = "RULES", default_value = "connection-strings")]
    #[arg(help_heading = "Confidential data", value_parser = MaskPolicy::parse)]
    #[arg(
        long_help = "off, or a list of connection-strings and filter:path, separated by commas, \
        such as connection-strings,reports:$.Owner.Email"
    )]
    pub(crate) mask: MaskPolicy,
    #[command(flatten)]
    pub(crate) retention: Retention,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) notices: Notices,
    #[command(flatten)]
    pub(crate) bridge: Bridge,
    #[command(flatten)]
    pub(crate) log: Log,
    /// Each setting with its text and its source.
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

    /// The user who called sudo, if this process was started by it.
    pub(crate) fn sudo_user() -> Option<String> {
        std::env::var_os("SUDO_USER")?.into_string().ok().filter(|name| !name.is_empty())
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

    /// The database's URL, for a command that needs it.
    pub(crate) fn database_url(&self) -> Result<&str, SettingsError> {
        self.servers.database_url.as_deref().ok_or_else(|| SettingsError::missing("database_url"))
    }

    /// The broker's URL, for a command that needs it.
    pub(crate) fn amqp_url(&self) -> Result<&str, SettingsError> {
        self.servers.amqp_url.as_deref().ok_or_else(|| SettingsError::missing("amqp_url"))
    }

    /// The folder of the bridge's journal, state and secret.
    pub(crate) fn bridge_folder(&self) -> Result<PathBuf, SettingsError> {
        let key_file = self.local_keys.as_ref().map(LocalKeys::path);
        self.bridge.folder(key_file.and_then(|path| path.parent().map(PathBuf::from)))
    }

    /// The machine's own key file; `None` if keys are set.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        let local = self.local_keys.as_ref().filter(|_| self.servers.secret_keys.is_none())?;
        Some(local.path())
    }

    /// The keys that encrypt secrets. If none are set, reads or creates the key of this machine.
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
                "created a key that encrypts secrets, in the file {path}; keep a copy of it, and if \
                 Fanfare runs on more than one machine, set FANFARE_SECRET_KEYS to the contents of \
                 this file on all of them"
            );
        } else {
            tracing::debug!("using the keys in {path}, because FANFARE_SECRET_KEYS is not set");
        }
        Ok(keys)
    }
}

/// Whether the environment allows colours. `NO_COLOR` (<https://no-color.org>) forbids them if it is
/// not empty, and so does a terminal without colours.
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
