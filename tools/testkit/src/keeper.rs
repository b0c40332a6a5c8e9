//! The process that ends servers whose owner can't: `keeper.sh`, in a process group of its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

const SCRIPT: &str = include_str!("keeper.sh");

/// Keeps the servers of one folder until it is dropped, or until this process is gone.
pub(crate) struct Keeper(Child);

impl Keeper {
    /// Starts to watch the processes that have a file under `folder/pids`.
    pub(crate) fn of_owner(folder: &Path) -> Result<Self> {
        let mut command = script(folder);
        command.stdin(Stdio::piped());
        Ok(Self(command.spawn().context("starting the servers' keeper")?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // A failure can't be handled here, and the script limits its own time.
        let _ = self.0.wait();
    }
}

/// Keeps the servers of `folder` for the holders of `lock`: they end `linger` after the last
/// holder, and `state`, the file by which others find them, goes with them. Outlives this process.
pub(crate) fn keep_for_holders(
    folder: &Path,
    lock: &Path,
    linger: Duration,
    state: &Path,
) -> Result<()> {
    script(folder)
        .arg(lock)
        .arg(linger.as_secs_f32().to_string())
        .arg(state)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the shared servers' keeper")?;
    Ok(())
}

/// The keeper stays out of the terminal's reach, and out of the folder that it will remove.
fn script(folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT, "fanfare-testkit-keeper"])
        .arg(folder)
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command
}
