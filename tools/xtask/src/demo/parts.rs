//! The demo's processes: commands that are run to their end, and parts that run until the demo is
//! over.
//!
//! Each runs in a group of its own, so that a Ctrl-C reaches the demo alone, which then ends its
//! parts in order. Should the demo itself be killed, the private servers' keeper ends the parts: it
//! looks after whatever has a file in the servers' folder `pids` and works inside that folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fanfare_testkit::process::{command_in, tail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// No command that ends by itself should take longer, not even on a busy machine.
const COMMAND_PATIENCE: Duration = Duration::from_mins(1);

/// A part that has not said that it works within this time never will.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The product promises to end within 30 seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How often a log is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The binary with its settings for this demo.
#[derive(Debug)]
pub(crate) struct Fanfare {
    pub(crate) binary: PathBuf,
    /// The settings, as environment variables.
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) home: PathBuf,
    /// Where the parts' output goes.
    pub(crate) logs: PathBuf,
}

impl Fanfare {
    /// Runs a command to its end and returns what it printed.
    pub(crate) async fn run(&self, arguments: &[&str], stdin: Option<&str>) -> Result<String> {
        let words = arguments.join(" ");
        let ended = async {
            let mut child = self
                .command(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // A command need not read all of its input.
                let _ = pipe.write_all(stdin.unwrap_or_default().as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = timeout(COMMAND_PATIENCE, ended)
            .await
            .with_context(|| format!("fanfare {words} took longer than {COMMAND_PATIENCE:?}"))?
            .with_context(|| format!("running {}", self.binary.display()))?;
        ensure!(
            output.status.success(),
            "fanfare {words} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end(),
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a part whose output goes to a log file of its name.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Result<Part> {
        let log = self.logs.join(format!("{name}.log"));
        let start = || -> Result<Child> {
            let output = File::options().create(true).append(true).open(&log)?;
            let child = self
                .command(arguments)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()?;
            if let Some(id) = child.id() {
                fs::write(self.home.join("pids").join(name), format!("TERM {id}\n"))?;
            }
            Ok(child)
        };
        Ok(Part {
            child: start().with_context(|| format!("starting the {name}"))?,
            name: name.to_owned(),
            log,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let settings = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        command_in(&self.home, &self.binary, arguments, settings)
    }
}

/// A process that runs until the demo is over.
#[derive(Debug)]
pub(crate) struct Part {
    name: String,
    child: Child,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Part {
    /// Its name, also of its log file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process id while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// An error, with the end of its log, if it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let (name, tail) = (&self.name, tail(&self.log));
            bail!("the {name} ended although nobody stopped it ({status}); its log ends:\n{tail}");
        }
        Ok(())
    }

    /// Waits for a line of its log that holds `text`, and returns the line.
    pub(crate) async fn says(&mut self, text: &str) -> Result<String> {
        let found = timeout(START_PATIENCE, async {
            loop {
                let log = read(&self.log);
                if let Some(line) = log.lines().find(|line| line.contains(text)) {
                    return Ok(line.to_owned());
                }
                self.check()?;
                sleep(POLL).await;
            }
        });
        found.await.unwrap_or_else(|_| {
            let (name, tail) = (&self.name, tail(&self.log));
            bail!("the {name} did not start within {START_PATIENCE:?}; its log ends:\n{tail}")
        })
    }

    /// Starts it once more if it has ended, and tells whether it had.
    pub(crate) fn revive(&mut self, fanfare: &Fanfare) -> Result<bool> {
        if self.child.try_wait()?.is_none() {
            return Ok(false);
        }
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        *self = fanfare.start(&self.name, &arguments)?;
        Ok(true)
    }

    /// Asks it to end, without waiting.
    pub(crate) fn terminate(&self) {
        // The id is kept for an ended child until it is waited for, so this can't hit a stranger.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended, and kills it if it does not end in time.
    pub(crate) async fn ended(&mut self) {
        if timeout(STOP_PATIENCE, self.child.wait()).await.is_err() {
            eprintln!("the {} did not end within {STOP_PATIENCE:?} and was killed", self.name);
            let _ = self.child.kill().await;
        }
    }
}

/// The whole of a log.
pub(crate) fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}
