//! Running a binary: its output and its end.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::wait::eventually;

/// The number of lines that are kept of a program's output; the oldest are dropped.
const MAX_LINES: usize = 100_000;

/// The time limit of a command.
const RUN_TIMEOUT: Duration = Duration::from_mins(2);

/// A running program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    name: String,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts `binary`, whose output is kept line by line, and shown on stderr too.
    ///
    /// The environment is this process's own without the settings of Fanfare, and with `envs`.
    ///
    /// # Panics
    ///
    /// If the program can't be started.
    pub fn spawn<'a>(
        binary: &Path,
        args: &[&str],
        envs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let name = format!("{} {}", file_name(binary), args.first().unwrap_or(&""));
        let mut child = command(binary, args, envs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {}: {error}", binary.display()));
        let said = Arc::default();
        let prefix = format!("{}[{}]", name.trim_end(), child.id());
        if let Some(stdout) = child.stdout.take() {
            listen(stdout, prefix.clone(), Arc::clone(&said));
        }
        if let Some(stderr) = child.stderr.take() {
            listen(stderr, prefix, Arc::clone(&said));
        }
        Self { child, name, said }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines of the program's stdout and stderr, in the order in which they were read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        hold(&self.said).iter().cloned().collect()
    }

    /// Waits for a line that contains `text`, also among earlier lines, and returns the first one.
    ///
    /// # Panics
    ///
    /// If it does not come in time.
    pub async fn wait_for_line(&self, text: &str, timeout: Duration) -> String {
        eventually(&format!("{} says {text:?}", self.name), timeout, async || {
            let said = hold(&self.said);
            let found = said.iter().find(|line| line.contains(text)).cloned();
            found.ok_or_else(|| said.back().cloned())
        })
        .await
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the program by SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both only fail for a process that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the program to end, by SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Asks the program to end as Ctrl-C does, by SIGINT.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    ///
    /// If it does not end in time.
    pub async fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, timeout, async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    fn signal(&mut self, signal: Signal) {
        // An ended child keeps its id until it is waited for, so this can't hit a stranger.
        if self.is_running() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The exit status and the output of a program.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Output {
    /// The standard output of a program that succeeded; else an error with its output.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "it failed ({}):\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// Runs `binary` to its end, with `stdin` as its input, in the environment of [`Process::spawn`].
///
/// An error if it can't be started, or takes longer than two minutes, after which it is killed.
pub async fn run<'a>(
    binary: &Path,
    args: &[&str],
    envs: impl IntoIterator<Item = (&'a str, &'a str)>,
    stdin: Option<&str>,
) -> Result<Output> {
    let mut child = tokio::process::Command::from(command(binary, args, envs))
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let pipe = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(text)) = (pipe, stdin) {
            // A program need not read all of its input.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
    };
    let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(RUN_TIMEOUT, ended)
        .await
        .with_context(|| format!("{} {} takes too long", binary.display(), args.join(" ")))??;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A program with the environment of [`Process::spawn`].
pub(crate) fn command<'a>(
    binary: &Path,
    args: &[&str],
    envs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if ["FANFARE_", "OTEL_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(name);
        }
    }
    command.args(args).envs(envs);
    command
}

/// A program that is to run in the `folder` of [private servers](crate::servers::Servers), in the
/// environment of [`Process::spawn`]. It is killed when its child is dropped. A group of its own
/// keeps a Ctrl-C on the terminal away; no `fanfare.toml` is there; and once its id is in the folder
/// `pids`, the servers' keeper ends it with them.
pub fn command_in<'a>(
    folder: &Path,
    binary: &Path,
    args: &[&str],
    envs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(command(binary, args, envs));
    command.current_dir(folder).process_group(0).kill_on_drop(true);
    command
}

/// The last ten lines of a log file, indented.
#[must_use]
pub fn tail(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(10);
    let last = lines.iter().skip(start).map(|line| format!("    {line}\n"));
    last.collect::<String>().trim_end().to_owned()
}

/// Reads a stream to its end in a thread, so that it is read while the test does something else.
fn listen(stream: impl Read + Send + 'static, prefix: String, said: Arc<Mutex<VecDeque<String>>>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        while let Ok(Some(line)) = next_line(&mut reader) {
            eprintln!("{prefix} {line}");
            let mut said = hold(&said);
            if said.len() == MAX_LINES {
                said.pop_front();
            }
            said.push_back(line);
        }
    });
}

fn next_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let n_bytes = reader.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    Ok((n_bytes > 0).then(|| line.trim_end_matches('\n').to_owned()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
