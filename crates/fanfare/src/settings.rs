//! Settings: from flags, else the environment, else `fanfare.toml`, else the default.
//!
//! The only module that reads the environment. [`table`] names each setting once; [`Settings`] is
//! what the rest of the program gets: every value is of its type, or the program has ended with
//! an error that names the setting, where it was set, and what it should look like.

mod distance;
#[cfg(test)]
mod document;
mod file;
mod flags;
mod form;
mod local_keys;
mod lookup;
mod resolve;
mod setting;
mod sign_in;
pub(crate) mod table;
mod traces;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanfare_core::mask::MaskPolicy;
use fanfare_core::retry::RetryPolicy;
use fanfare_core::share::Shares;
use fanfare_core::target::TargetPolicy;
use tracing_subscriber::EnvFilter;

pub(crate) use flags::{Flags, ListedFlags};
pub(crate) use local_keys::LocalKeys;
pub(crate) use resolve::{Resolved, Source};
pub(crate) use sign_in::SignIn;
pub(crate) use traces::Traces;
pub(crate) use value::Keys;

use resolve::{Environment, Values};

/// All settings, read and checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Each setting as it was given.
    pub(crate) resolved: Vec<Resolved>,
    /// Where the console listens.
    pub(crate) console_listen: SocketAddr,
    /// How people sign in there.
    pub(crate) sign_in: SignIn,
    /// Where metrics are served; `None` when they are not.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Which spans are sent, and where.
    pub(crate) traces: Traces,
    /// Where webhooks may lead.
    pub(crate) targets: TargetPolicy,
    /// A file with further authorities for receivers' certificates.
    pub(crate) receiver_ca_file: Option<PathBuf>,
    /// How the directory is waited for and kept.
    pub(crate) directory: Directory,
    /// What of an event's data is neither stored nor sent.
    pub(crate) mask: MaskPolicy,
    /// When to try again.
    pub(crate) retry: RetryPolicy,
    /// The longest time for connecting to a receiver.
    pub(crate) connect_timeout: Duration,
    /// The longest time for an attempt.
    pub(crate) timeout: Duration,
    /// The messages that a process holds at a time.
    pub(crate) prefetch: u16,
    /// The delivery queues.
    pub(crate) delivery_queues: Shares,
    /// The attempts that a worker makes side by side.
    pub(crate) concurrency: u32,
    /// The attempts that a worker makes side by side to one webhook.
    pub(crate) webhook_concurrency: u32,
    /// The most webhooks of one owner.
    pub(crate) webhooks_per_owner: u32,
    /// How long a webhook may fail before it is paused.
    pub(crate) pause_after: Duration,
    /// The database connections that a process may open.
    pub(crate) database_connections: usize,
    /// What is logged.
    pub(crate) log: Log,
    database_url: Option<String>,
    amqp_url: Option<String>,
    keys: Option<Keys>,
    local_keys: Option<LocalKeys>,
}

/// How the directory is waited for and kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory {
    /// How long an event waits for its directory revision.
    pub(crate) hold: Duration,
    /// How long a document that was passed over is waited for.
    pub(crate) gap_wait: Duration,
    /// Whether events go on without it then.
    pub(crate) pass_gaps: bool,
    /// How long history is kept.
    pub(crate) history: Duration,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// The filter.
    pub(crate) filter: String,
    /// Whether the filter was set by anyone.
    pub(crate) chosen: bool,
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Whether text may have colours where the log goes to a terminal.
    pub(crate) colours: bool,
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A value is not of its form.
    #[error("{name} is {value} ({source_name}); give {form}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value as it may be shown.
        value: String,
        /// Where it was set.
        source_name: String,
        /// What a value must be.
        form: &'static str,
    },
    /// A part of a value is wrong.
    #[error("{name} is {value:?} ({source_name}): {problem}; give {form}")]
    Part {
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// Where it was set.
        source_name: String,
        /// What is wrong with which part.
        problem: String,
        /// What a value must be.
        form: &'static str,
    },
    /// A settings file can't be read.
    #[error("failed to read the settings file {path}; check that it exists and can be read")]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file that holds a value can't be read.
    #[error(
        "failed to read {path}, which {name}_FILE names; check that it exists and that this user \
         may read it"
    )]
    ValueUnreadable {
        /// The setting.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A settings file holds something wrong.
    #[error("in the settings file {path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The machine's own key file can't be used.
    #[error("failed to use the key file {path}; make it accessible, or set FANFARE_SECRET_KEYS")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The machine's own key file holds something else.
    #[error(
        "the key file {path} does not hold keys; restore it from a backup, since secrets in the \
         database may need it, or set FANFARE_SECRET_KEYS"
    )]
    KeyFileDamaged {
        /// The file.
        path: PathBuf,
    },
    /// There is no place for the machine's own keys.
    #[error("neither HOME nor XDG_STATE_HOME says where to keep a key; set FANFARE_SECRET_KEYS")]
    NoKeys,
    /// A setting can't be so beside the others.
    #[error("{name} can't be so: {problem}")]
    Together {
        /// The setting.
        name: &'static str,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// A setting without a default is missing.
    #[error(
        "{name} is not set; set it in the environment, give --{flag}, or write {key} = \"…\" in \
         fanfare.toml: {form}"
    )]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// The flag.
        flag: &'static str,
        /// The key in the file.
        key: &'static str,
        /// What a value must be.
        form: &'static str,
    },
}

impl Settings {
    /// Reads the settings of this process.
    pub(crate) fn load(flags: &Flags) -> Result<Self, SettingsError> {
        Self::from_sources(flags, &resolve::process_environment)
    }

    fn from_sources(flags: &Flags, environment: Environment<'_>) -> Result<Self, SettingsError> {
        let values = Values::resolve(flags, environment)?;
        let directory = |name: &str| environment(name).map(PathBuf::from);
        let mut settings = Self {
            console_listen: values.read("console_listen", |text| text.trim().parse().ok())?,
            sign_in: SignIn::read(&values)?,
            metrics_listen: values.read("metrics_listen", value::listen_or_off)?.0,
            traces: Traces::read(&values)?,
            targets: TargetPolicy::new(values.read("allow_targets", value::networks)?),
            receiver_ca_file: values.read_if_set("receiver_ca_file", value::file)?,
            directory: directory_times(&values)?,
            mask: values.read_or_say("mask", MaskPolicy::parse)?,
            retry: retry_policy(&values)?,
            connect_timeout: values.read("connect_timeout", value::duration)?,
            timeout: values.read("timeout", value::duration)?,
            prefetch: values
                .read("prefetch", |text| text.trim().parse().ok().filter(|n| *n > 0))?,
            delivery_queues: values.read("delivery_queues", value::delivery_queues)?,
            concurrency: values.read("concurrency", count_u32)?,
            webhook_concurrency: values.read("webhook_concurrency", count_u32)?,
            webhooks_per_owner: values.read("webhooks_per_owner", count_u32)?,
            pause_after: values.read("pause_failing_after", value::duration)?,
            database_connections: values.read("database_connections", value::count)?,
            log: log(&values, environment)?,
            database_url: values.read_if_set("database_url", value::database_url)?,
            amqp_url: values.read_if_set("amqp_url", value::amqp_url)?,
            keys: values.read_if_set("secret_keys", value::keys)?,
            local_keys: LocalKeys::new(directory("XDG_STATE_HOME"), directory("HOME")),
            resolved: Vec::new(),
        };
        settings.resolved = values.into_resolved();
        Ok(settings)
    }

    /// The database's URL, for a command that can't do without.
    pub(crate) fn database_url(&self) -> Result<&str, SettingsError> {
        self.database_url.as_deref().ok_or_else(|| missing("database_url"))
    }

    /// The broker's URL, for a command that can't do without.
    pub(crate) fn amqp_url(&self) -> Result<&str, SettingsError> {
        self.amqp_url.as_deref().ok_or_else(|| missing("amqp_url"))
    }

    /// The machine's own key file, which is used because no keys are set.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        let local = self.local_keys.as_ref().filter(|_| self.keys.is_none())?;
        Some(local.path())
    }

    /// The keys that encrypt secrets; makes the machine's own when none are set and none is there.
    pub(crate) fn keys(&self) -> Result<Keys, SettingsError> {
        if let Some(keys) = &self.keys {
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

fn count_u32(text: &str) -> Option<u32> {
    value::count(text).and_then(|count| u32::try_from(count).ok())
}

fn directory_times(values: &Values) -> Result<Directory, SettingsError> {
    Ok(Directory {
        hold: values.read("directory_hold", value::duration)?,
        gap_wait: values.read("directory_gap_wait", value::duration)?,
        pass_gaps: values.read("directory_gap", |text| match text.trim() {
            "hold" => Some(false),
            "pass" => Some(true),
            _ => None,
        })?,
        history: values.read("directory_history", value::duration)?,
    })
}

fn retry_policy(values: &Values) -> Result<RetryPolicy, SettingsError> {
    Ok(RetryPolicy {
        first: values.read("retry_first", value::duration)?,
        max_delay: values.read("retry_max_delay", value::duration)?,
        attempts: values.read("retry_attempts", count_u32)?,
        deadline: values.read("delivery_deadline", value::duration)?,
    })
}

fn log(values: &Values, environment: Environment<'_>) -> Result<Log, SettingsError> {
    let filter = |text: &str| EnvFilter::try_new(text).is_ok().then(|| text.to_owned());
    let json = |text: &str| match text.trim() {
        "text" => Some(false),
        "json" => Some(true),
        _ => None,
    };
    Ok(Log {
        filter: values.read("log", filter)?,
        chosen: values.is_set("log"),
        json: values.read("log_format", json)?,
        colours: may_colour(environment),
    })
}

/// Whether the environment leaves colours to the program: `NO_COLOR` (<https://no-color.org>), when
/// it is not empty, and a terminal that has none refuse them.
fn may_colour(environment: Environment<'_>) -> bool {
    let refused = environment("NO_COLOR").is_some_and(|text| !text.is_empty());
    let dumb = environment("TERM").is_some_and(|text| text == "dumb");
    !refused && !dumb
}

fn missing(key: &'static str) -> SettingsError {
    let setting = table::Setting::by_key(key);
    SettingsError::Missing {
        name: setting.map_or(key, |setting| setting.name),
        flag: setting.map_or(key, |setting| setting.flag),
        key,
        form: setting.map_or("a value", |setting| setting.form.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn load(flags: &[(&'static str, &str)], env: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::from_sources(&Flags::of(flags), &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_contract_s() {
        let settings = load(&[], &[]).unwrap();
        assert_eq!(settings.retry, RetryPolicy::default());
        assert_eq!(settings.console_listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.metrics_listen, None);
        assert_eq!(settings.targets, TargetPolicy::default());
        assert_eq!(settings.mask, MaskPolicy::default());
        assert_eq!(settings.connect_timeout, Duration::from_secs(5));
        assert_eq!(settings.timeout, Duration::from_secs(15));
        assert_eq!((settings.concurrency, settings.database_connections), (1024, 8));
        assert_eq!((settings.log.filter.as_str(), settings.log.json), ("info", false));
    }

    #[test]
    fn flags_win_over_the_environment() {
        let env = [("FANFARE_TIMEOUT", "1s"), ("FANFARE_CONCURRENCY", "7")];
        let settings = load(&[("timeout", "2s")], &env).unwrap();
        assert_eq!(settings.timeout, Duration::from_secs(2));
        assert_eq!(settings.concurrency, 7);
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let settings = load(&[], &[("FANFARE_TIMEOUT", ""), ("FANFARE_DATABASE_URL", "")]).unwrap();
        assert_eq!(settings.timeout, Duration::from_secs(15));
        assert!(settings.database_url().is_err());
    }

    #[test]
    fn a_value_may_have_a_file_of_its_own() {
        let path = std::env::temp_dir().join(format!("fanfare-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "postgres://db/x\n").unwrap();
        let name = path.to_str().unwrap();
        let file = ("FANFARE_DATABASE_URL_FILE", name);
        let settings = load(&[], &[file]).unwrap();
        assert_eq!(settings.database_url().unwrap(), "postgres://db/x");
        let shown = settings.resolved.iter().find(|it| it.setting.key == "database_url").unwrap();
        assert_eq!(shown.source, Source::File(path.clone()));

        let settings = load(&[], &[file, ("FANFARE_DATABASE_URL", "postgres://db/y")]).unwrap();
        assert_eq!(settings.database_url().unwrap(), "postgres://db/y");

        std::fs::remove_file(&path).unwrap();
        let error = load(&[], &[file]).unwrap_err();
        assert!(error.contains(name) && error.contains("FANFARE_DATABASE_URL_FILE"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_source_and_form() {
        let error = load(&[], &[("FANFARE_RETRY_FIRST", "5 parsecs")]).unwrap_err();
        let expected = "FANFARE_RETRY_FIRST is \"5 parsecs\" (from the environment); \
                        give a whole number with a unit, such as 500ms, 5s, 2m, 12h or 3d";
        assert_eq!(error, expected);
        let error = load(&[("log_format", "xml")], &[]).unwrap_err();
        assert_eq!(
            error,
            "FANFARE_LOG_FORMAT is \"xml\" (from the flag --log-format); give text or json"
        );
    }

    #[test]
    fn every_setting_refuses_nonsense_by_name() {
        for setting in table::SETTINGS {
            let error = load(&[(setting.key, "=no\u{1}[sense")], &[]).map(|_| setting.name);
            match error {
                Err(error) => assert!(error.contains(setting.name), "{error}"),
                // A connection string is checked when it is used.
                Ok(name) => assert_eq!(name, "FANFARE_DATABASE_URL"),
            }
        }
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        for (name, value) in [
            ("FANFARE_SECRET_KEYS", "k:hidden"),
            ("FANFARE_AMQP_URL", "http://anna:hidden@mq"),
            ("FANFARE_DATABASE_URL", "mysql://anna:hidden@db"),
        ] {
            let error = load(&[], &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_told_with_all_three_names() {
        let settings = load(&[], &[]).unwrap();
        let error = settings.amqp_url().unwrap_err().to_string();
        for name in ["FANFARE_AMQP_URL", "--amqp-url", "amqp_url = "] {
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn set_keys_are_used_as_they_are() {
        let keys = vec![("k".to_owned(), [5; 32])];
        let text = value::write_keys(&keys);
        let settings = load(&[], &[("FANFARE_SECRET_KEYS", &text), ("HOME", "/nowhere")]).unwrap();
        assert_eq!(settings.keys().unwrap(), keys);
        assert_eq!(settings.key_file(), None);
    }
}
