//! What can be wrong with the settings.

use std::path::PathBuf;

use clap::error::ErrorKind;

use super::Setting;

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A value is not of its form.
    #[error("{name} is {value} ({source_name}){problem}; give {form}")]
    Value {
        /// The setting.
        name: String,
        /// The value as it may be shown.
        value: String,
        /// Where it was set.
        source_name: String,
        /// What is wrong with which part, after a colon; empty when the parser can't say.
        problem: String,
        /// What a value must be.
        form: String,
    },
    /// The parser refuses something else than a value.
    #[error("failed to read the settings: {0}")]
    Unreadable(ErrorKind),
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
        name: String,
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
        name: String,
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
        name: String,
        /// The flag.
        flag: String,
        /// The key in the file.
        key: &'static str,
        /// What a value must be.
        form: String,
    },
}

impl SettingsError {
    /// A setting without a default is missing.
    pub(super) fn missing(key: &'static str) -> Self {
        let setting = Setting::by_key(key);
        let named = |name: fn(&Setting) -> String| setting.as_ref().map(name).unwrap_or_default();
        Self::Missing {
            name: named(Setting::name),
            flag: named(|setting| setting.flag().to_owned()),
            key,
            form: named(Setting::form),
        }
    }
}
