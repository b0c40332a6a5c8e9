//! Building the binary that the demo shows, the benchmark measures, and the tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// The variable with the path of a binary that is already built.
pub const TEST_BINARY: &str = "FANFARE_TEST_BINARY";

/// The keys with which the tests' processes encrypt secrets, as a setting.
pub const SECRET_KEYS: &str = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Builds `fanfare` with a profile of cargo, whose own progress goes to stderr, and returns the
/// binary's path. The build ends when this future is dropped.
///
/// # Errors
///
/// If cargo can't be run, or the build fails, or cargo does not print where the binary is.
pub async fn fanfare(profile: &str) -> Result<PathBuf> {
    let output = Command::from(cargo_build(workspace(), profile, &[]))
        .kill_on_drop(true)
        .spawn()
        .context("running cargo build")?
        .wait_with_output()
        .await
        .context("running cargo build")?;
    built(&output)
}

/// The binary that the end-to-end tests run, never older than its sources: [`TEST_BINARY`] where
/// the runner of the tests has just built it, else it is built here, once for each process.
///
/// # Panics
///
/// If the binary can't be built.
pub fn under_test() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os(TEST_BINARY) {
        Some(path) => path.into(),
        None => build_for_tests().unwrap_or_else(|error| panic!("no binary to test: {error:#}")),
    })
}

/// Builds `fanfare` for the tests, with failpoints, and waits for it.
///
/// # Errors
///
/// As [`fanfare`].
pub fn build_for_tests() -> Result<PathBuf> {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let made = build_in(workspace(), profile, &["--features", "failpoints"])?;
    keep(&made, "under-test")
}

/// Keeps a built binary in a folder of its own, because another build puts its binary in the same place.
pub(crate) fn keep(made: &Path, folder: &str) -> Result<PathBuf> {
    let folder = target().join(folder);
    let kept = folder.join("fanfare");
    let _ = fs::remove_file(&kept);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::hard_link(made, &kept))
        .with_context(|| format!("keeping {}", kept.display()))?;
    Ok(kept)
}

/// Builds `fanfare` of a workspace in the target folder of this one, and waits for it.
pub(crate) fn build_in(workspace: &Path, profile: &str, options: &[&str]) -> Result<PathBuf> {
    let mut build = cargo_build(workspace, profile, options);
    built(&build.stderr(Stdio::inherit()).output().context("running cargo build")?)
}

fn cargo_build(workspace: &Path, profile: &str, options: &[&str]) -> process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = process::Command::new(cargo);
    command
        .args(["build", "--package", "fanfare", "--bin", "fanfare", "--profile", profile])
        .args(options)
        // Diagnostics stay on stderr; stdout says where the binary is.
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target())
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn built(output: &process::Output) -> Result<PathBuf> {
    ensure!(
        output.status.success(),
        "building fanfare failed ({}); what the compiler says is above",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let binary = messages.lines().rev().find_map(binary);
    binary.context("cargo build did not say where the binary is")
}

/// The target folder of this workspace.
pub(crate) fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR");
    workspace().join(chosen.map_or_else(|| "target".into(), PathBuf::from))
}

#[must_use]
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

fn binary(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == "fanfare";
    let path = message["executable"].as_str().filter(|_| is_ours)?;
    Some(path.into())
}
