//! The project's own commands, run as `cargo xtask NAME`; `.cargo/config.toml` has short names for
//! some of them.
//!
//! Each command is a module with a function `run`, and a line in [`COMMANDS`].

mod cargo;
mod check_all;
mod deb;
mod demo;
mod deny;
mod documents;
mod edges;
mod fuzz;
mod installed;
mod site;
mod tidy;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fanfare_testkit::build::{TEST_BINARY, build_for_tests};
use fanfare_testkit::previous::{PREVIOUS_BINARY, build_previous};

struct Command {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
}

const COMMANDS: [Command; 7] = [
    Command { name: "check-all", about: "every test and every check", run: check_all::run },
    Command {
        name: "check-deb",
        about: "installs the Debian package of this build in a folder and removes it",
        run: check_all::package,
    },
    Command { name: "deb", about: "the Debian package of a release", run: deb::run },
    Command {
        name: "previous-binary",
        about: "builds the binary of the previous commit for the tests; nextest calls it",
        run: previous_binary,
    },
    Command { name: "site", about: "the documents as a site, in target/site", run: site::run },
    Command {
        name: "test-binary",
        about: "builds the binary for the end-to-end tests; nextest calls it",
        run: test_binary,
    },
    Command { name: "tidy", about: "the project's own rules about its files", run: tidy::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("demo", rest)) = arguments.split_first().map(|(name, rest)| (name.as_str(), rest))
    {
        return demo::run(rest);
    }
    if let Some(("fuzz", rest)) = arguments.split_first().map(|(name, rest)| (name.as_str(), rest))
    {
        return ended("fuzz", fuzz::run_targets(rest));
    }
    let command = match arguments.as_slice() {
        [name] => COMMANDS.iter().find(|command| command.name == name),
        _ => None,
    };
    let Some(command) = command else {
        eprintln!("usage: cargo xtask COMMAND");
        eprintln!("  {:15} the whole service, with servers of its own", "demo");
        eprintln!("  {:15} looks for inputs that break a property of a parser", "fuzz");
        for Command { name, about, .. } in COMMANDS {
            eprintln!("  {name:11} {about}");
        }
        return ExitCode::from(2);
    };
    ended(command.name, (command.run)())
}

fn ended(name: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the binary for the end-to-end tests.
fn test_binary() -> Result<()> {
    give_binary(TEST_BINARY, build_for_tests)
}

/// Builds the binary that runs beside it in the tests of upgrades.
fn previous_binary() -> Result<()> {
    give_binary(PREVIOUS_BINARY, build_previous)
}

/// Builds a binary, unless a path to one is given, and passes its path to the tests in the file that
/// nextest names.
fn give_binary(variable: &str, build: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    if std::env::var_os(variable).is_some() {
        return Ok(());
    }
    let binary = build()?;
    let Some(file) = std::env::var_os("NEXTEST_ENV") else {
        println!("{}", binary.display());
        return Ok(());
    };
    let mut file = OpenOptions::new().append(true).open(file).context("opening NEXTEST_ENV")?;
    writeln!(file, "{variable}={}", binary.display()).context("writing to NEXTEST_ENV")
}
