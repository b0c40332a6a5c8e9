//! Finds the value of each setting in its sources.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Command};

use super::file::{self, FileSettings};
use super::mask::Shown;
use super::{Flags, Setting, SettingsError};

/// The environment variable that names the settings file.
const CONFIG: &str = "FANFARE_CONFIG";

/// The suffix of a variable that names a file with the value. Containers and services get secrets as
/// files.
const FILE_SUFFIX: &str = "_FILE";

/// Looks up an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A setting with its text and its source.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) setting: Setting,
    /// The text; `None` if the setting is not set and has no default.
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment,
    File(PathBuf),
    Default,
}

/// Finds the value of each setting. The first of these counts: the flag, the variable, the file that
/// the variable with `_FILE` names, the settings file, the default. An empty variable counts as not
/// set, because container files can't unset one in another way.
pub(super) fn resolve(
    flags: &Flags,
    environment: Environment<'_>,
) -> Result<Vec<Resolved>, SettingsError> {
    let environment = |name: &str| environment(name).filter(|text| !text.is_empty());
    let named = flags.config.clone().or_else(|| environment(CONFIG).map(PathBuf::from));
    let file = file::read(named.as_deref())?;
    Setting::all().map(|setting| resolve_one(setting, flags, &environment, &file)).collect()
}

fn resolve_one(
    setting: Setting,
    flags: &Flags,
    environment: Environment<'_>,
    file: &FileSettings,
) -> Result<Resolved, SettingsError> {
    let (key, name) = (setting.key(), setting.name());
    let (value, source) = if let Some(text) = flags.values.get(key) {
        (Some(text.clone()), Source::Flag)
    } else if let Some(text) = environment(&name) {
        let text = text
            .into_string()
            .map_err(|text| refused(&setting, &Source::Environment, &text.to_string_lossy(), ""))?;
        (Some(text), Source::Environment)
    } else if let Some(path) = environment(&format!("{name}{FILE_SUFFIX}")) {
        let path = PathBuf::from(path);
        (Some(read_value(name, &path)?), Source::File(path))
    } else if let Some(text) = file.values.get(key) {
        (Some(text.clone()), Source::File(file.path.clone()))
    } else {
        (setting.default().map(str::to_owned), Source::Default)
    };
    Ok(Resolved { setting, value, source })
}

/// Reads a value from its own file, without the line break at the end.
fn read_value(name: String, path: &Path) -> Result<String, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(source) => Err(SettingsError::ValueUnreadable { name, path: path.to_owned(), source }),
    }
}

/// Parses the values that were set. For the others clap uses the defaults.
pub(super) fn parse(resolved: &[Resolved]) -> Result<ArgMatches, SettingsError> {
    let arguments = resolved.iter().map(|one| one.setting.clone().into_argument());
    let command = Command::new("settings").no_binary_name(true).disable_help_flag(true);
    let given = resolved.iter().filter(|one| one.source != Source::Default);
    let given = given.filter_map(|one| {
        let text = one.value.as_ref()?;
        Some(format!("--{}={text}", one.setting.flag()))
    });
    command.args(arguments).try_get_matches_from(given).map_err(|error| explain(&error, resolved))
}

/// Makes an error about a setting from the parser's error about an argument.
fn explain(error: &clap::Error, resolved: &[Resolved]) -> SettingsError {
    let found = match error.get(ContextKind::InvalidArg) {
        // The text includes the value's name, such as `--timeout <DURATION>`.
        Some(ContextValue::String(argument)) => resolved.iter().find(|one| {
            argument.strip_prefix("--").and_then(|rest| rest.split(' ').next())
                == Some(one.setting.flag())
        }),
        _ => None,
    };
    let Some(found) = found else {
        return SettingsError::Unreadable(error.kind());
    };
    let problem = error.source().map(ToString::to_string).unwrap_or_default();
    let text = found.value.as_deref().unwrap_or_default();
    refused(&found.setting, &found.source, text, &problem)
}

fn refused(setting: &Setting, source: &Source, text: &str, problem: &str) -> SettingsError {
    // A password in an invalid URL can't be found and masked.
    let value = match setting.shown() {
        Shown::Whole => format!("{text:?}"),
        Shown::WithoutPassword | Shown::Nothing => "not usable".to_owned(),
    };
    let problem = if problem.is_empty() { String::new() } else { format!(": {problem}") };
    let source_name = match source {
        Source::Default => "its default".to_owned(),
        Source::Environment => "from the environment".to_owned(),
        other => format!("from the {}", other.name(setting)),
    };
    SettingsError::Value { name: setting.name(), value, source_name, problem, form: setting.form() }
}

impl Resolved {
    /// The value with its secret parts masked.
    pub(crate) fn shown(&self) -> Option<String> {
        self.value.as_deref().map(|text| self.setting.mask(text))
    }
}

impl Source {
    /// The name of the source, for messages about this setting.
    pub(crate) fn name(&self, setting: &Setting) -> String {
        match self {
            Self::Flag => format!("flag --{}", setting.flag()),
            Self::Environment => "environment".to_owned(),
            Self::File(path) => format!("file {}", path.display()),
            Self::Default => "default".to_owned(),
        }
    }
}
