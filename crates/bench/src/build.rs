//! Building the binary that is measured.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// The profile of the benchmark itself, and so of what it builds.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Builds `fanfare`, cargo's own progress on stderr, and tells where it is.
pub(crate) async fn fanfare() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "fanfare", "--bin", "fanfare", "--profile", PROFILE])
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
pub(crate) fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_path_buf()
}

fn binary(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == "fanfare";
    let path = message["executable"].as_str().filter(|_| is_ours)?;
    Some(path.into())
}
