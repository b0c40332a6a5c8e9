//! Finding a setting in the table.

use super::distance::edits;
use super::table::{SETTINGS, Setting};

impl Setting {
    /// The setting with this key in the file.
    pub(crate) fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The known key that is spelled most like `key`.
    pub(crate) fn nearest_key(key: &str) -> &'static str {
        let folded = key.to_lowercase().replace('-', "_");
        let folded = folded.strip_prefix("fanfare_").unwrap_or(&folded);
        SETTINGS
            .iter()
            .map(|setting| setting.key)
            .min_by_key(|known| edits(folded, known))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_names_of_a_setting_agree() {
        for setting in SETTINGS {
            // OpenTelemetry's own settings keep the names that its users know.
            let name = setting.name.strip_prefix("FANFARE_").unwrap_or(setting.name);
            assert_eq!(name, setting.key.to_uppercase());
            assert!(["FANFARE_", "OTEL_"].iter().any(|own| setting.name.starts_with(own)));
            assert_eq!(setting.flag, setting.key.replace('_', "-"));
        }
    }

    #[test]
    fn the_nearest_key_is_found() {
        for (wrong, right) in [
            ("databse_url", "database_url"),
            ("FANFARE_TIMEOUT", "timeout"),
            ("retry-attempt", "retry_attempts"),
            ("log_fromat", "log_format"),
        ] {
            assert_eq!(Setting::nearest_key(wrong), right);
        }
    }
}
