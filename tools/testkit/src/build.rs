//! Building the binary that the demo shows and the benchmark measures.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// Builds `fanfare` with this profile of cargo's, whose own progress goes to stderr, and tells where
/// it is. A build that nobody waits for any more ends.
///
/// # Errors
///
/// If cargo can't be run, or the build fails, or cargo does not tell where the binary is.
pub async fn fanfare(profile: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "fanfare", "--bin", "fanfare", "--profile", profile])
        // Diagnostics stay on stderr; stdout tells where the binary is.
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("running cargo build")?
        .wait_with_output()
        .await
        .context("running cargo build")?;
    ensure!(
        output.status.success(),
        "building fanfare failed ({}); what the compiler says is above",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let binary = messages.lines().rev().find_map(binary);
    binary.context("cargo build did not say where the binary is")
}

/// The workspace's folder.
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
