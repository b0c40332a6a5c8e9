//! `docs/reference/commands.md`: the help of every command.
//!
//! A test compares the document with the program, and writes it if `UPDATE_DOCS` is set.

use std::fmt::Write as _;

use super::command;

const HEAD: &str = "# Commands

The help of every command. A test compares this page with the program.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
";

/// Appends the help of the command with this path, and of all its subcommands.
fn describe(fanfare: &clap::Command, path: &[&str], text: &mut String) {
    // The width is the same on every terminal.
    let arguments = path.iter().chain(&["--help"]);
    let help = fanfare.clone().term_width(100).try_get_matches_from(arguments).unwrap_err();
    let help = help.render().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(text, "\n## `{}`\n\n```text\n{}\n```\n", path.join(" "), lines.join("\n")).unwrap();
    let found = path.iter().skip(1).fold(fanfare, |at, name| at.find_subcommand(name).unwrap());
    for subcommand in subcommands(found) {
        describe(fanfare, &[path, &[subcommand.get_name()]].concat(), text);
    }
}

#[test]
fn commands_document_matches_the_help_of_every_command() {
    let mut text = HEAD.to_owned();
    describe(&command(), &["fanfare"], &mut text);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
        return;
    }
    let document = std::fs::read_to_string(path).unwrap();
    assert!(
        document == text,
        "docs/reference/commands.md differs from the help of the commands; run `UPDATE_DOCS=1 cargo \
         test -p fanfare cli::document` and review the changes"
    );
}

#[test]
fn only_the_settings_command_lists_the_settings() {
    let mut fanfare = command();
    fanfare.build();
    let mut pending = subcommands(&fanfare);
    while let Some(mut subcommand) = pending.pop() {
        pending.extend(subcommands(&subcommand));
        let help = subcommand.render_long_help().to_string();
        let name = subcommand.get_name();
        assert_eq!(help.contains("FANFARE_TIMEOUT"), name == "settings", "{name}: {help}");
        assert!(!help.contains("<VALUE>"), "{name}: {help}");
    }
}

fn subcommands(command: &clap::Command) -> Vec<clap::Command> {
    command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect()
}
