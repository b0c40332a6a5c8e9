//! Errors in the settings.

use std::path::PathBuf;

use clap::error::ErrorKind;

use super::Setting;

/// An error in the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A value is invalid. `problem` begins with a colon and names the invalid part; it is empty if
    /// the form says enough.
    #[error("{name} is {value} ({source_name}){problem}; give {form}")]
    Value { name: String, value: String, source_name: String, problem: String, form: String },
    /// The parser failed with an error that is not about a value.
    #[error("failed to read the settings: {0}")]
    Unreadable(ErrorKind),
    #[error("failed to read the settings file {path}; check that it exists and can be read")]
    FileUnreadable { path: PathBuf, source: std::io::Error },
    /// The file with the value of one setting can't be read.
    #[error(
        "failed to read {path}, which {name}_FILE names; check that it exists and that this user \
         may read it"
    )]
    ValueUnreadable { name: String, path: PathBuf, source: std::io::Error },
    /// The text of a settings file is invalid.
    #[error("in the settings file {path}: {problem}")]
    File { path: PathBuf, problem: String },
    /// The machine's key file can't be read or created.
    #[error("failed to use the key file {path}; make it accessible, or set FANFARE_SECRET_KEYS")]
    KeyFile { path: PathBuf, source: std::io::Error },
    /// The machine's key file is damaged.
    #[error(
        "the key file {path} does not hold keys; restore it from a backup, since secrets in the \
         database may need it, or set FANFARE_SECRET_KEYS"
    )]
    KeyFileDamaged { path: PathBuf },
    /// There is no directory for the machine's key file.
    #[error(
        "there is no directory for a key file, because neither HOME nor XDG_STATE_HOME is set; set \
         FANFARE_SECRET_KEYS"
    )]
    NoKeys,
    /// A setting contradicts others. `problem` says why, and what to do.
    #[error("FANFARE_{} is not valid here: {problem}", .key.to_uppercase())]
    Together { key: &'static str, problem: &'static str },
    /// A setting without a default is missing.
    #[error(
        "FANFARE_{} is not set; set it in the environment, give --{}, or write {key} = \"…\" in \
         fanfare.toml: {form}",
        .key.to_uppercase(), .key.replace('_', "-")
    )]
    Missing { key: &'static str, form: String },
}

impl SettingsError {
    pub(super) fn missing(key: &'static str) -> Self {
        let form = Setting::by_key(key).map(|setting| setting.form()).unwrap_or_default();
        Self::Missing { key, form }
    }
}
