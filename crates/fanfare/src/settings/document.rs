//! `docs/configuration.md`: the list of settings.
//!
//! A test compares the document with the declarations, and writes it if `UPDATE_DOCS` is set.

use std::fmt::Write as _;

use super::Setting;

/// The generated part of the document is between these lines.
const BEGIN: &str = "<!-- The settings, as crates/fanfare/src/settings.rs declares them. -->";
const END: &str = "<!-- The end of the settings. -->";

fn settings() -> String {
    let mut text = String::new();
    let mut section = String::new();
    for setting in Setting::all() {
        if setting.section() != section {
            section = setting.section().to_owned();
            writeln!(text, "\n## {section}").unwrap();
        }
        write!(text, "\n{}", entry(&setting)).unwrap();
    }
    text
}

fn entry(setting: &Setting) -> String {
    let (name, flag, key) = (setting.name(), setting.flag(), setting.key());
    let (about, form) = (setting.about(), setting.form());
    let default = match setting.default() {
        None => "not set".to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
    };
    format!(
        "### `{name}`\n\n{about}.\n\n- flag `--{flag}`, in the file `{key}`\n- default: {default}\n\
         - value: {form}\n"
    )
}

#[test]
fn configuration_document_matches_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}\n", settings());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            listed, expected,
            "docs/configuration.md differs from the declarations of the settings; run \
             `UPDATE_DOCS=1 cargo test -p fanfare settings::document` and review the changes"
        );
    }
}
