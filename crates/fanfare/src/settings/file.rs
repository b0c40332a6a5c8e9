//! `fanfare.toml`: settings in a file, one key each.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::SettingsError;
use super::table::Setting;

/// The file that is read when it is there and no other one is named.
pub(crate) const DEFAULT_FILE: &str = "fanfare.toml";

/// Settings from a file.
#[derive(Debug, Default)]
pub(crate) struct FileSettings {
    /// The file; `None` when there is none.
    pub(crate) path: Option<PathBuf>,
    /// Values by key.
    pub(crate) values: BTreeMap<&'static str, String>,
}

/// Reads the named file, or the default one if it is there.
pub(crate) fn read(named: Option<&Path>) -> Result<FileSettings, SettingsError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(FileSettings::default());
        }
        Err(source) => {
            return Err(SettingsError::FileUnreadable { path: path.to_owned(), source });
        }
    };
    let values = parse(&text).map_err(|problem| problem.in_file(path))?;
    Ok(FileSettings { path: Some(path.to_owned()), values })
}

/// What is wrong with a file's text.
#[derive(Debug)]
struct Problem(String);

impl Problem {
    fn in_file(self, path: &Path) -> SettingsError {
        SettingsError::File { path: path.to_owned(), problem: self.0 }
    }
}

fn parse(text: &str) -> Result<BTreeMap<&'static str, String>, Problem> {
    let table: Table = toml::from_str(text).map_err(|error| {
        // The library's own rendering quotes the line, which may hold a secret.
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        Problem(format!("line {line} is not TOML; write key = \"value\", one a line"))
    })?;
    table.into_iter().map(|(key, value)| entry(&key, &value)).collect()
}

fn entry(key: &str, value: &Value) -> Result<(&'static str, String), Problem> {
    let Some(setting) = Setting::by_key(key) else {
        let nearest = Setting::nearest_key(key);
        return Err(Problem(format!("there is no setting {key:?}; did you mean {nearest:?}?")));
    };
    let text = scalar(value).or_else(|| list(value)).ok_or_else(|| {
        Problem(format!(
            "{key} must be a text, a number or a list of texts; give {}",
            setting.form.text
        ))
    })?;
    Ok((setting.key, text))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

fn list(value: &Value) -> Option<String> {
    let texts: Option<Vec<String>> = value.as_array()?.iter().map(scalar).collect();
    texts.map(|texts| texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_numbers_and_lists_are_read() {
        let values = parse(
            "database_url = \"postgres://x\"\nretry_attempts = 3\nallow_targets = [\"::1\", \"10.0.0.0/8\"]\n",
        )
        .unwrap();
        assert_eq!(values["database_url"], "postgres://x");
        assert_eq!(values["retry_attempts"], "3");
        assert_eq!(values["allow_targets"], "::1,10.0.0.0/8");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let problem = parse("retry_atempts = 3").unwrap_err().0;
        assert_eq!(
            problem,
            "there is no setting \"retry_atempts\"; did you mean \"retry_attempts\"?"
        );
    }

    #[test]
    fn a_broken_line_is_named_and_not_quoted() {
        let problem = parse("log = \"info\"\nsecret_keys = k:hidden\n").unwrap_err().0;
        assert!(problem.starts_with("line 2 "), "{problem}");
        assert!(!problem.contains("hidden"), "{problem}");
    }

    #[test]
    fn other_types_are_refused() {
        assert!(parse("timeout = 1.5").unwrap_err().0.contains("timeout must be"));
        assert!(parse("[timeout]\nfirst = 1").unwrap_err().0.contains("timeout must be"));
    }
}
