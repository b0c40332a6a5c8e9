//! `docs/configuration.md` as the table of settings has it.
//!
//! Only a test, which compares; with `UPDATE_DOCS=1` in its environment it writes.

use std::fmt::Write as _;

use super::table::{SETTINGS, Setting};

/// The part of the document that comes from the table stands between these lines.
const BEGIN: &str =
    "<!-- The settings, from the table in crates/fanfare/src/settings/table.rs. -->";
const END: &str = "<!-- The end of the settings. -->";

/// The sections by the first setting of each: those that follow it belong to the same.
const SECTIONS: [(&str, &str); 10] = [
    ("database_url", "Servers and keys"),
    ("console_listen", "Console"),
    ("console_url", "Signing in at the console"),
    ("metrics_listen", "Metrics and traces"),
    ("allow_targets", "Where webhooks may lead"),
    ("retry_first", "Attempts and retries"),
    ("directory_hold", "Directory"),
    ("mask", "What is kept from receivers"),
    ("prefetch", "Load"),
    ("log", "Logs"),
];

fn settings() -> String {
    let mut text = String::new();
    for setting in SETTINGS {
        if let Some((_, title)) = SECTIONS.iter().find(|(first, _)| *first == setting.key) {
            writeln!(text, "\n## {title}").unwrap();
        }
        write!(text, "\n{}", entry(setting)).unwrap();
    }
    text
}

fn entry(setting: &Setting) -> String {
    let Setting { name, flag, key, default, about, .. } = setting;
    let form = setting.form.text;
    let default = match default {
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
fn the_document_has_every_setting() {
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
            "docs/configuration.md is not what the table of settings says; run `UPDATE_DOCS=1 \
             cargo test -p fanfare settings::document` and look at what changed"
        );
    }
}

#[test]
fn every_section_begins_with_a_setting() {
    let positions = SECTIONS.map(|(first, title)| {
        let at = SETTINGS.iter().position(|setting| setting.key == first);
        at.unwrap_or_else(|| panic!("{title} begins with {first}, which is no setting"))
    });
    assert!(positions.is_sorted() && positions[0] == 0, "{positions:?}");
}
