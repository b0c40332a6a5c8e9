//! The processes of a run: commands, which end by themselves; parts, which run until they are
//! stopped; and helpers, which are this binary in another role and answer commands.
//!
//! Each process has its own process group, runs in the servers' folder, and has a file in the
//! folder `pids`. If the benchmark is killed, the servers' keeper uses these files to end the
//! processes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fanfare_testkit::process::{command_in, tail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::usage::{self, Memory};
use crate::wire::Reply;

/// The longest time for the start of a part.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The interval of checks of a log, or of a process's memory.
const POLL: Duration = Duration::from_millis(20);

/// The working folder of processes, and the folder of their logs.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    /// The folder of the logs.
    pub(crate) logs: PathBuf,
}

/// The environment of a process, in addition to that of this one.
pub(crate) type Settings = Vec<(String, String)>;

impl Home {
    /// Runs a command that must succeed within `limit`; returns its largest observed memory.
    pub(crate) async fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        settings: &Settings,
        limit: Duration,
    ) -> Result<Memory> {
        let words = arguments.join(" ");
        let log = self.logs.join("commands.log");
        let output = open(&log)?;
        let mut child = self
            .command(program, arguments, settings)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("running {}", program.display()))?;
        let mut most = Memory::default();
        let id = child.id();
        let ended = timeout(limit, async {
            loop {
                if let Some(status) = child.try_wait()? {
                    return Ok::<_, std::io::Error>(status);
                }
                most = id.and_then(usage::memory).unwrap_or(most);
                sleep(POLL).await;
            }
        });
        let status =
            ended.await.with_context(|| format!("`{words}` took longer than {limit:?}"))??;
        ensure!(status.success(), "`{words}` failed ({status}); its log ends:\n{}", tail(&log));
        Ok(most)
    }

    /// Starts a part, whose output is written to a log file with its name.
    pub(crate) fn start(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        settings: &Settings,
    ) -> Result<Part> {
        let log = self.logs.join(format!("{name}.log"));
        let output = open(&log)?;
        let mut command = self.command(program, arguments, settings);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.spawn(name, command, log)
    }

    /// Starts this binary in another role.
    pub(crate) fn helper(&self, role: &str) -> Result<Helper> {
        let own = std::env::current_exe().context("looking for this binary")?;
        let log = self.logs.join(format!("{role}.log"));
        let mut command = self.command(&own, &[role], &Settings::new());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(open(&log)?);
        let mut part = self.spawn(role, command, log)?;
        let pipes = (part.child.stdin.take(), part.child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else { bail!("the {role} has no pipes") };
        Ok(Helper { part, stdin, lines: BufReader::new(stdout).lines() })
    }

    fn spawn(&self, name: &str, mut command: Command, log: PathBuf) -> Result<Part> {
        let child = command.spawn().with_context(|| format!("starting the {name}"))?;
        let id = child.id().with_context(|| format!("the {name} ended at once"))?;
        let pid_file = self.folder.join("pids").join(format!("{name}-{id}"));
        fs::write(&pid_file, format!("KILL {id}\n"))?;
        Ok(Part { name: name.to_owned(), child, id, log, pid_file })
    }

    fn command(&self, program: &Path, arguments: &[&str], settings: &Settings) -> Command {
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        command_in(&self.folder, program, arguments, settings)
    }
}

/// A process that runs until it is stopped. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Part {
    name: String,
    child: Child,
    id: u32,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Part {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Fails if the process has ended by itself. The error contains the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let (name, tail) = (&self.name, tail(&self.log));
            bail!("the {name} ended although nobody stopped it ({status}); its log ends:\n{tail}");
        }
        Ok(())
    }

    /// Waits for a line with `text` in its log, after the first `skipped` bytes.
    pub(crate) async fn wait_for_log(&mut self, text: &str, skipped: usize) -> Result<()> {
        let found = timeout(START_TIMEOUT, async {
            loop {
                let log = fs::read(&self.log).unwrap_or_default();
                let new = log.get(skipped..).unwrap_or_default();
                if String::from_utf8_lossy(new).contains(text) {
                    return Ok(());
                }
                self.check()?;
                sleep(POLL).await;
            }
        });
        found.await.unwrap_or_else(|_| {
            let (name, tail) = (&self.name, tail(&self.log));
            bail!("the {name} did not start within {START_TIMEOUT:?}; its log ends:\n{tail}")
        })
    }

    /// Kills the process, and waits until it has ended.
    pub(crate) async fn end(mut self) {
        // This fails only for a process that has ended already.
        let _ = self.child.kill().await;
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// A process of this binary that answers commands.
#[derive(Debug)]
pub(crate) struct Helper {
    part: Part,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub(crate) fn id(&self) -> u32 {
        self.part.id()
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &mut self,
        command: &impl Serialize,
        limit: Duration,
    ) -> Result<A> {
        let line = serde_json::to_string(command)? + "\n";
        let answered = timeout(limit, async {
            self.stdin.write_all(line.as_bytes()).await?;
            self.lines.next_line().await
        });
        let name = &self.part.name;
        let answer = answered
            .await
            .with_context(|| format!("the {name} did not answer within {limit:?}"))?
            .with_context(|| format!("speaking with the {name}"))?;
        let Some(answer) = answer else {
            bail!("the {name} ended; its log ends:\n{}", tail(&self.part.log));
        };
        match serde_json::from_str(&answer).with_context(|| format!("the {name} said {answer}"))? {
            Reply::Done(answer) => Ok(answer),
            Reply::Failed(error) => Err(anyhow!("the {name}: {error}")),
        }
    }

    /// Kills the process, and waits until it has ended.
    pub(crate) async fn end(self) {
        self.part.end().await;
    }
}

/// The present length of a part's log, in bytes.
pub(crate) fn log_length(home: &Home, name: &str) -> usize {
    fs::read(home.logs.join(format!("{name}.log"))).map_or(0, |log| log.len())
}

fn open(log: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))
}
