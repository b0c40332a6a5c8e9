//! Processes that run until they are stopped, whose output goes to files: those of the demo and of
//! the benchmark.
//!
//! Each runs in the folder of private servers and in a process group of its own, so that Ctrl-C on
//! the terminal does not reach it. Should the demo or the benchmark be killed, the servers' keeper
//! ends what has a file in the folder `pids` and works inside the servers' folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::servers::Servers;

pub use rustix::process::Signal;

/// A process that does not work within this time never will.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The product promises to end within 30 seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a log is read while a line is awaited.
const POLL: Duration = Duration::from_millis(20);

/// A folder for the logs of one run.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// Creates the folder inside `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let folder = dir.join(format!("logs-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder, unless the run has `failed`: then it says on stderr where the logs are.
    pub fn end(self, failed: bool) {
        if failed {
            eprintln!("the logs stay in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(self.folder);
        }
    }
}

/// Where services run, and where their output goes.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
    logs: PathBuf,
}

impl Home {
    /// A home in the folder of these servers.
    #[must_use]
    pub fn new(servers: &Servers, logs: &Logs) -> Self {
        Self { folder: servers.folder().to_owned(), logs: logs.folder.clone() }
    }

    /// The folder of the logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The log of a service.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Opens a log, to append to it.
    pub fn open_log(&self, name: &str) -> Result<File> {
        let log = self.log(name);
        let opened = File::options().create(true).append(true).open(&log);
        opened.with_context(|| format!("opening {}", log.display()))
    }

    /// Starts a service, whose stdout and stderr go to the log of its name.
    pub fn start(&self, name: &str, command: impl Into<Command>) -> Result<Service> {
        let mut command = command.into();
        let output = self.open_log(name)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.spawn(name, command)
    }

    /// Starts a service to speak with over its stdin and stdout. Its stderr goes to the log.
    pub fn start_with_pipes(
        &self,
        name: &str,
        command: impl Into<Command>,
    ) -> Result<(Service, ChildStdin, ChildStdout)> {
        let mut command = command.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.open_log(name)?);
        let mut service = self.spawn(name, command)?;
        let pipes = (service.child.stdin.take(), service.child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else { bail!("the {name} has no pipes") };
        Ok((service, stdin, stdout))
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Service> {
        command.current_dir(&self.folder).process_group(0).kill_on_drop(true);
        let log = self.log(name);
        let log_start = read(&log).len();
        let child = command.spawn().with_context(|| format!("starting the {name}"))?;
        let id = child.id().with_context(|| format!("the {name} ended at once"))?;
        let pid_file = self.folder.join("pids").join(format!("{name}-{id}"));
        fs::write(&pid_file, format!("TERM {id}\n"))?;
        Ok(Service { name: name.to_owned(), command, child, id, log, log_start, pid_file })
    }
}

/// A process that runs until it is stopped. It is killed when this is dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    command: Command,
    child: Child,
    id: u32,
    log: PathBuf,
    /// The length of the log when this process was started: services of one name share a log.
    log_start: usize,
    pid_file: PathBuf,
}

impl Service {
    /// Its name, also of its log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file with its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Fails, with the end of its log, if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let (name, tail) = (&self.name, tail(&self.log));
            bail!("the {name} ended although nothing stopped it ({status}); its log ends:\n{tail}");
        }
        Ok(())
    }

    /// Waits for a line of its log that holds `text`, and returns the first one. Fails if the service
    /// ends first, or after a minute.
    pub async fn wait_for_line(&mut self, text: &str) -> Result<String> {
        let found = timeout(START_TIMEOUT, async {
            loop {
                let log = fs::read(&self.log).unwrap_or_default();
                let own = String::from_utf8_lossy(log.get(self.log_start..).unwrap_or_default());
                if let Some(line) = own.lines().find(|line| line.contains(text)) {
                    return Ok(line.to_owned());
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

    /// Starts it again if it has ended, and returns whether it had.
    pub fn restart_if_ended(&mut self, home: &Home) -> Result<bool> {
        if self.ended()?.is_none() {
            return Ok(false);
        }
        let command = std::mem::replace(&mut self.command, Command::new("true"));
        *self = home.spawn(&self.name, command)?;
        Ok(true)
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// If the system does not say so.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            let _ = fs::remove_file(&self.pid_file);
        }
        Ok(status)
    }

    /// Asks it to stop, by SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal. One that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        // The child has an id until it is waited for, so this can't hit another process.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, and kills it if that takes longer than 30 seconds.
    pub async fn stopped(mut self) {
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            eprintln!("the {} did not end within {STOP_TIMEOUT:?} and was killed", self.name);
        }
        self.kill().await;
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(mut self) {
        // It fails only for a process that has ended, and then there is nothing to do.
        let _ = self.child.kill().await;
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// The whole of a log.
#[must_use]
pub fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The last ten lines of a log, indented.
#[must_use]
pub fn tail(log: &Path) -> String {
    let log = read(log);
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(10);
    let last = lines.iter().skip(start).map(|line| format!("    {line}\n"));
    last.collect::<String>().trim_end().to_owned()
}
