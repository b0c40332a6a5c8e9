//! `fanfare.toml`: settings in a file, one key each.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Setting, SettingsError};

/// The file that is read if it exists and no other file is named.
const DEFAULT_FILE: &str = "fanfare.toml";

/// Settings from a file.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) path: PathBuf,
    /// Values by key; empty if there is no file.
    pub(super) values: BTreeMap<String, String>,
}

/// Reads the named file, or the default one if it exists.
pub(super) fn read(named: Option<&Path>) -> Result<FileSettings, SettingsError> {
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
    Ok(FileSettings { path: path.to_owned(), values })
}

/// An error in a file's text, for a person.
#[derive(Debug)]
struct Problem(String);

impl Problem {
    fn in_file(self, path: &Path) -> SettingsError {
        SettingsError::File { path: path.to_owned(), problem: self.0 }
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let table: Table = toml::from_str(text).map_err(|error| {
        // The library's own message quotes the line, which may contain a secret.
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        Problem(format!("line {line} is not TOML; write key = \"value\", one per line"))
    })?;
    table.into_iter().map(|(key, value)| entry(key, &value)).collect()
}

fn entry(key: String, value: &Value) -> Result<(String, String), Problem> {
    let Some(setting) = Setting::by_key(&key) else {
        let nearest = nearest_key(&key);
        return Err(Problem(format!("there is no setting {key:?}; did you mean {nearest:?}?")));
    };
    let text = scalar(value).or_else(|| list(value)).ok_or_else(|| {
        let form = setting.form();
        Problem(format!("{key} must be a string, an integer or a list of these; give {form}"))
    })?;
    Ok((key, text))
}

/// The known key whose spelling is nearest to `key`.
fn nearest_key(key: &str) -> String {
    let folded = key.to_lowercase().replace('-', "_");
    let folded = folded.strip_prefix("fanfare_").unwrap_or(&folded);
    let nearest = Setting::all().min_by_key(|known| strsim::levenshtein(folded, known.key()));
    nearest.map(|setting| setting.key().to_owned()).unwrap_or_default()
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
    fn unknown_key_error_suggests_the_nearest_key() {
        let problem = parse("retry_atempts = 3").unwrap_err().0;
        assert_eq!(
            problem,
            "there is no setting \"retry_atempts\"; did you mean \"retry_attempts\"?"
        );
    }

    #[test]
    fn invalid_toml_error_has_the_line_number_and_not_the_text() {
        let problem = parse("log = \"info\"\nsecret_keys = k:hidden\n").unwrap_err().0;
        assert!(problem.starts_with("line 2 "), "{problem}");
        assert!(!problem.contains("hidden"), "{problem}");
    }

    #[test]
    fn values_of_other_types_are_refused() {
        assert!(parse("timeout = 1.5").unwrap_err().0.contains("timeout must be"));
        assert!(parse("[timeout]\nfirst = 1").unwrap_err().0.contains("timeout must be"));
    }

    #[test]
    fn nearest_key_is_found() {
        for (wrong, right) in [
            ("databse_url", "database_url"),
            ("FANFARE_TIMEOUT", "timeout"),
            ("retry-attempt", "retry_attempts"),
            ("log_fromat", "log_format"),
        ] {
            assert_eq!(nearest_key(wrong), right);
        }
    }
}
