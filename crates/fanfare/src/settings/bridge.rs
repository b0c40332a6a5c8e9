//! The bridge to a report server that publishes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fanfare_bridge::api::Credentials;
use fanfare_bridge::directory::Rules;
use fanfare_core::name::Name;
use url::Url;

use super::SettingsError;
use super::value::{self, DURATION, by};

/// The settings of a bridge.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bridge to a report server")]
pub(crate) struct Bridge {
    /// The address of the report server
    #[arg(id = "bridge_server", long = "bridge-server", env = "FANFARE_BRIDGE_SERVER", value_name = "URL", value_parser = by(address))]
    #[arg(long_help = "an http or https address, such as http://reports.example.org:83")]
    server: Option<Url>,
    /// The bridge's account at the report server: a local user who is a System Administrator
    #[arg(id = "bridge_user", long = "bridge-user", env = "FANFARE_BRIDGE_USER", value_name = "NAME", value_parser = by(Name::parse))]
    #[arg(long_help = "the name of a user of the report server")]
    user: Option<Name>,
    /// The password of the bridge's account
    #[arg(
        id = "bridge_password",
        long = "bridge-password",
        env = "FANFARE_BRIDGE_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    #[arg(value_parser = by(secret), long_help = "the password of FANFARE_BRIDGE_USER")]
    password: Option<Secret>,
    /// A personal token of the bridge's account, instead of its password
    #[arg(
        id = "bridge_token",
        long = "bridge-token",
        env = "FANFARE_BRIDGE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    #[arg(value_parser = by(secret), long_help = "a personal token of FANFARE_BRIDGE_USER")]
    token: Option<Secret>,
    /// The address of the bridge as the report server reaches it. The bridge registers it as a webhook
    #[arg(id = "bridge_url", long = "bridge-url", env = "FANFARE_BRIDGE_URL", value_name = "URL", value_parser = by(address))]
    #[arg(long_help = "an http or https address with a path, such as http://fanfare:8090/in/main")]
    url: Option<Url>,
    /// The address at which the bridge listens
    #[arg(
        id = "bridge_listen",
        long = "bridge-listen",
        env = "FANFARE_BRIDGE_LISTEN",
        value_name = "ADDRESS"
    )]
    #[arg(default_value = "127.0.0.1:8090", value_parser = by(value::listen))]
    #[arg(long_help = "an address with a port, such as 127.0.0.1:8090 or [::]:8090")]
    pub(crate) listen: SocketAddr,
    /// The source of the events, which names the report server. Never change it: it is a part of what
    /// identifies an event
    #[arg(
        id = "bridge_source",
        long = "bridge-source",
        env = "FANFARE_BRIDGE_SOURCE",
        value_name = "TEXT"
    )]
    #[arg(default_value = "/report-server", value_parser = by(source))]
    #[arg(long_help = "a text of 1 to 200 characters without spaces, such as /report-server/main")]
    pub(crate) source: String,
    /// The folder of the bridge's journal, state and secret. It must outlive the process
    #[arg(id = "bridge_folder", long = "bridge-folder", env = "FANFARE_BRIDGE_FOLDER", value_name = "FOLDER", value_parser = by(value::file))]
    #[arg(long_help = "a folder that the bridge may write")]
    folder: Option<PathBuf>,
    /// The largest size of the journal, in MiB. When it is full, the report server gets 503 and
    /// tries again
    #[arg(
        id = "bridge_journal",
        long = "bridge-journal",
        env = "FANFARE_BRIDGE_JOURNAL",
        value_name = "MIB",
        default_value = "1024"
    )]
    #[arg(value_parser = by(value::count::<u32>), long_help = value::COUNT)]
    journal: u32,
    /// How often users, roles and permissions are read. Access that is taken away reaches Fanfare with
    /// the next reading
    #[arg(
        id = "bridge_poll",
        long = "bridge-poll",
        env = "FANFARE_BRIDGE_POLL",
        value_name = "DURATION",
        default_value = "1m"
    )]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) poll: Duration,
    /// The id of the role System Administrator, if it has another name at the report server
    #[arg(
        id = "bridge_administrators_role",
        long = "bridge-administrators-role",
        env = "FANFARE_BRIDGE_ADMINISTRATORS_ROLE",
        value_name = "ID"
    )]
    #[arg(value_parser = by(source), long_help = "the id of a role")]
    administrators_role: Option<String>,
}

/// A text that `Debug` does not show.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Bridge {
    /// The address of the report server.
    pub(crate) fn server(&self) -> Result<&Url, SettingsError> {
        self.server.as_ref().ok_or_else(|| SettingsError::missing("bridge_server"))
    }

    /// The address of the bridge.
    pub(crate) fn url(&self) -> Result<&Url, SettingsError> {
        self.url.as_ref().ok_or_else(|| SettingsError::missing("bridge_url"))
    }

    /// The bridge's account.
    pub(crate) fn account(&self) -> Result<&Name, SettingsError> {
        self.user.as_ref().ok_or_else(|| SettingsError::missing("bridge_user"))
    }

    /// Whether the settings name a report server.
    pub(crate) fn is_used(&self) -> bool {
        self.server.is_some()
    }

    /// How the directory is made.
    pub(crate) fn rules(&self) -> Result<Rules, SettingsError> {
        let administrators = self.administrators_role.clone();
        Ok(Rules { account: self.account()?.clone(), administrators })
    }

    /// How the bridge signs in.
    pub(crate) fn credentials(&self) -> Result<Credentials, SettingsError> {
        let user = self.account()?.to_string();
        match (&self.token, &self.password) {
            (Some(Secret(token)), None) => Ok(Credentials::PersonalToken(token.clone())),
            (None, Some(Secret(password))) => {
                Ok(Credentials::Password { user, password: password.clone() })
            }
            (None, None) => Err(SettingsError::missing("bridge_password")),
            (Some(_), Some(_)) => {
                let problem = "FANFARE_BRIDGE_PASSWORD is set, too; leave out one of them";
                Err(SettingsError::Together { key: "bridge_token", problem })
            }
        }
    }

    /// The folder; by default one in the state directory.
    pub(crate) fn folder(&self, state: Option<PathBuf>) -> Result<PathBuf, SettingsError> {
        let default = || state.map(|state| state.join("bridge"));
        let folder = self.folder.clone().or_else(default);
        folder.ok_or_else(|| SettingsError::missing("bridge_folder"))
    }

    /// The largest size of the journal, in bytes.
    pub(crate) fn journal_limit(&self) -> u64 {
        u64::from(self.journal) * 1024 * 1024
    }
}

/// An http or https address without a query and a fragment.
fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    is_plain.then_some(url)
}

fn secret(text: &str) -> Option<Secret> {
    (!text.is_empty() && !text.contains(char::is_control)).then(|| Secret(text.to_owned()))
}

fn source(text: &str) -> Option<String> {
    let is_valid = (1..=200).contains(&text.len())
        && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    is_valid.then(|| text.to_owned())
}
