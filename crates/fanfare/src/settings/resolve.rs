//! Where each setting's value comes from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::SettingsError;
use super::file::{self, FileSettings};
use super::flags::Flags;
use super::table::{SETTINGS, Setting, Shown};
use super::value;

/// The environment variable that names the settings file.
const CONFIG: &str = "FANFARE_CONFIG";

/// What is added to a variable's name when it names a file that holds the value, as secrets come to
/// containers and services.
const FILE_SUFFIX: &str = "_FILE";

/// How variables are looked up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment of this process; a variable that is empty counts as not set, since that is how
/// container files unset one.
pub(super) fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A setting as it was given.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The setting.
    pub(crate) setting: &'static Setting,
    /// The text; `None` when it is not set and has no default.
    pub(crate) value: Option<String>,
    /// Where the text comes from.
    pub(crate) source: Source,
}

impl Resolved {
    /// The value as it may be shown. A default is no secret.
    pub(crate) fn shown(&self) -> Option<String> {
        let is_default = self.value.as_deref() == self.setting.default;
        let shown = if is_default { Shown::Whole } else { self.setting.shown };
        self.value.as_deref().map(|text| value::mask(text, shown))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag.
    Flag(&'static str),
    /// The environment.
    Environment,
    /// A file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All settings as they were given.
pub(super) struct Values(Vec<Resolved>);

impl Values {
    /// Looks each setting up: flags, else the environment, else a file that the environment names
    /// for it, else the settings file, else the default.
    pub(super) fn resolve(
        flags: &Flags,
        environment: Environment<'_>,
    ) -> Result<Self, SettingsError> {
        let environment = |name: &str| environment(name).filter(|text| !text.is_empty());
        let named = environment(CONFIG).map(PathBuf::from);
        let file = file::read(flags.config().or(named.as_deref()))?;
        let resolve = |setting| resolve_one(setting, flags, &environment, &file);
        SETTINGS.iter().map(resolve).collect::<Result<_, _>>().map(Self)
    }

    /// A setting that has a default.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, SettingsError> {
        self.read_if_set(key, parse)?.ok_or_else(|| super::missing(key))
    }

    /// A setting that has a default, all of which may be shown, and several parts: which of them
    /// is wrong is told.
    pub(super) fn read_or_say<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, SettingsError> {
        let resolved = self.find(key).ok_or_else(|| super::missing(key))?;
        let text = resolved.value.as_deref().unwrap_or_default();
        parse(text).map_err(|error| SettingsError::Part {
            name: resolved.setting.name,
            value: text.to_owned(),
            source_name: source_name(&resolved.source),
            problem: error.to_string(),
            form: resolved.setting.form.text,
        })
    }

    /// A setting that may be missing.
    pub(super) fn read_if_set<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(resolved) = self.find(key) else {
            return Ok(None);
        };
        let Some(text) = resolved.value.as_deref() else {
            return Ok(None);
        };
        parse(text).map(Some).ok_or_else(|| wrong(resolved.setting, &resolved.source, text))
    }

    /// Whether anyone set it.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some_and(|resolved| resolved.source != Source::Default)
    }

    /// The settings in the table's order.
    pub(super) fn into_resolved(self) -> Vec<Resolved> {
        self.0
    }

    fn find(&self, key: &str) -> Option<&Resolved> {
        self.0.iter().find(|resolved| resolved.setting.key == key)
    }
}

fn resolve_one(
    setting: &'static Setting,
    flags: &Flags,
    environment: Environment<'_>,
    file: &FileSettings,
) -> Result<Resolved, SettingsError> {
    let (value, source) = if let Some(text) = flags.value(setting.key) {
        (Some(text.to_owned()), Source::Flag(setting.flag))
    } else if let Some(text) = environment(setting.name) {
        let text = text
            .into_string()
            .map_err(|text| wrong(setting, &Source::Environment, &text.to_string_lossy()))?;
        (Some(text), Source::Environment)
    } else if let Some(path) = environment(&format!("{}{FILE_SUFFIX}", setting.name)) {
        let path = PathBuf::from(path);
        (Some(read_value(setting, &path)?), Source::File(path))
    } else if let Some(text) = file.values.get(setting.key) {
        let path = file.path.as_deref().unwrap_or(Path::new(file::DEFAULT_FILE));
        (Some(text.clone()), Source::File(path.to_owned()))
    } else {
        (setting.default.map(str::to_owned), Source::Default)
    };
    Ok(Resolved { setting, value, source })
}

/// Reads a value that has a file of its own; the line's end is not part of it.
fn read_value(setting: &'static Setting, path: &Path) -> Result<String, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::ValueUnreadable {
        name: setting.name,
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn wrong(setting: &'static Setting, source: &Source, text: &str) -> SettingsError {
    // Where a password stands in what is not a URL of the right kind, nobody knows.
    let value = match setting.shown {
        Shown::Whole => format!("{text:?}"),
        Shown::WithoutPassword | Shown::Nothing => "not usable".to_owned(),
    };
    let source_name = source_name(source);
    SettingsError::Value { name: setting.name, value, source_name, form: setting.form.text }
}

fn source_name(source: &Source) -> String {
    match source {
        Source::Flag(flag) => format!("from the flag --{flag}"),
        Source::Environment => "from the environment".to_owned(),
        Source::File(path) => format!("from the file {}", path.display()),
        Source::Default => "its default".to_owned(),
    }
}
