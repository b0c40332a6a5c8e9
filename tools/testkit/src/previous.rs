//! The binary of the previous commit, for tests in which two versions run side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

use crate::build::{build_in, keep, target, workspace};

/// The variable with the path of that binary.
pub const PREVIOUS_BINARY: &str = "FANFARE_PREVIOUS_BINARY";

/// The variable that names another commit than the previous one.
const COMMIT: &str = "FANFARE_PREVIOUS_COMMIT";

/// The folder in the target folder that has its sources and the binary.
const FOLDER: &str = "previous";

/// The binary of the previous commit: [`PREVIOUS_BINARY`] where the runner of the tests has just built
/// it, else it is built here, once for each process.
///
/// # Panics
///
/// If the binary can't be built.
pub fn previous_version() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os(PREVIOUS_BINARY) {
        Some(path) => path.into(),
        None => build_previous().unwrap_or_else(|error| panic!("no previous version: {error:#}")),
    })
}

/// Builds `fanfare` of the previous commit, or of the one that `FANFARE_PREVIOUS_COMMIT` names, and
/// returns the binary's path. With uncommitted changes, the previous commit is the newest one.
///
/// It is built in the target folder of this workspace, where most libraries are built already. Its
/// packages get another version, since cargo would take them for those of this workspace.
///
/// # Errors
///
/// If the workspace has no history, or the build fails.
pub fn build_previous() -> Result<PathBuf> {
    let commit = commit()?;
    let folder = target().join(FOLDER);
    let (source, binary, built) =
        (folder.join("source"), folder.join("fanfare"), folder.join("commit"));
    if binary.exists() && fs::read_to_string(&built).is_ok_and(|built| built == commit) {
        return Ok(binary);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    extract(&commit, &source)?;
    mark_version(&source)?;
    let binary = keep(&build_in(&source, "dev", &[])?, FOLDER)?;
    fs::write(&built, commit).context("noting the commit")?;
    Ok(binary)
}

/// The full name of the previous commit.
fn commit() -> Result<String> {
    let named = std::env::var_os(COMMIT).and_then(|name| name.into_string().ok());
    let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let name = named.as_deref().unwrap_or(if is_changed { "HEAD" } else { "HEAD~1" });
    let commit = git(&["rev-parse", "--verify", &format!("{name}^{{commit}}")]);
    commit.with_context(|| format!("{name} is not in the history; clone the repository whole"))
}

/// Puts the files of a commit into a folder.
fn extract(commit: &str, folder: &Path) -> Result<()> {
    let mut archive = git_command(&["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("running git archive")?;
    let files = archive.stdout.take().context("git archive has no output")?;
    let unpacked = Command::new("tar").arg("-x").arg("-C").arg(folder).stdin(files).status();
    ensure!(unpacked.context("running tar")?.success(), "tar could not unpack {commit}");
    ensure!(archive.wait()?.success(), "git archive could not read {commit}");
    Ok(())
}

/// Adds `+previous` to the version of a workspace.
fn mark_version(source: &Path) -> Result<()> {
    let manifest = source.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).context("reading the workspace's Cargo.toml")?;
    let version = text.lines().find(|line| line.starts_with("version = \""));
    let version = version.context("the workspace has no version")?;
    let marked = format!("{}+previous\"", version.trim_end_matches('"'));
    fs::write(&manifest, text.replacen(version, &marked, 1)).context("marking the version")
}

fn git(args: &[&str]) -> Result<String> {
    let output = git_command(args).output().context("running git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {}", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn git_command(args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(workspace()).stdin(Stdio::null());
    command
}
