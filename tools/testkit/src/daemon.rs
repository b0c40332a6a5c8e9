//! One server process: its start in a group of its own, its entry for the keeper, and its end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The interval at which a state is polled.
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Daemon {
    child: Child,
    /// Where the keeper finds the process.
    pid_file: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` as `name` in the servers' `folder`; its output goes to a log file there.
    ///
    /// `last_signal` is what the keeper ends it with; the command must run inside the folder, or the
    /// keeper takes it for a stranger. A group of its own keeps a Ctrl-C on the terminal away.
    pub(crate) fn spawn(
        mut command: Command,
        folder: &Path,
        name: &str,
        last_signal: &str,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let pid_file = folder.join("pids").join(name);
        fs::write(&pid_file, format!("{last_signal} {}\n", child.id()))?;
        Ok(Self { child, pid_file, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready` says so; an error, with the log's end, if the process ends before.
    pub(crate) fn wait_until(
        &mut self,
        patience: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if is_ready() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}); its log ends:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("not ready after {patience:?}; its log ends:\n{}", self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for a process that ends by itself.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        self.forget();
        if !status.success() {
            bail!("it failed ({status}); its log ends:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Asks the process to end with `signal`, and kills it if it has not done so in time.
    pub(crate) fn end(mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill()?;
            }
            thread::sleep(POLL);
        };
        self.forget();
        Ok(status)
    }

    /// Sends a signal to the process, if it still runs.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        // An ended child keeps its id until it is waited for, so this can't hit a stranger.
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    fn forget(&self) {
        // If the file stays behind, the keeper checks whose process it is before it ends it.
        let _ = fs::remove_file(&self.pid_file);
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
