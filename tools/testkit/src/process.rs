//! Running a binary: what it says, and how it ends.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::mutex::hold;
use crate::wait::eventually;

/// The most lines of a program that are kept; the oldest ones are dropped.
const MAX_LINES: usize = 100_000;

/// No command of ours should take longer.
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
        Self::of(command(binary, args, envs))
    }

    /// Starts a command, otherwise as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// If the program can't be started.
    #[must_use]
    pub fn of(mut command: Command) -> Self {
        let first = command.get_args().next().map(OsStr::to_string_lossy).unwrap_or_default();
        let name = format!("{} {first}", file_name(Path::new(command.get_program())));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {name}: {error}"));
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

    /// All that the program has said on stdout and stderr, in the order it was read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        hold(&self.said).iter().cloned().collect()
    }

    /// Waits for a line that holds `text`, said before or said now, and returns the first such line.
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

/// What a program left when it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Output {
    /// The exit code, unless a signal ended the program.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts that `fanfare` failed with this code and one line, and returns the line without the
    /// program's name.
    ///
    /// # Panics
    ///
    /// If it ended in another way.
    #[track_caller]
    #[must_use]
    pub fn failed_with(&self, code: i32) -> &str {
        assert_eq!((self.code(), self.stdout.as_str()), (Some(code), ""), "{self:?}");
        match self.stderr.strip_prefix("fanfare: ").and_then(|line| line.strip_suffix('\n')) {
            Some(line) if !line.contains('\n') => line,
            _ => panic!("not one line: {}", self.stderr),
        }
    }

    /// The standard output of a program that succeeded; else an error with what it said.
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

impl From<process::Output> for Output {
    fn from(output: process::Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
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
    let output = output_of(command(binary, args, envs), stdin).await;
    output.with_context(|| format!("running {} {}", binary.display(), args.join(" ")))
}

/// Runs a command as [`run`] does, in its own environment.
pub async fn output_of(command: Command, stdin: Option<&str>) -> Result<Output> {
    let mut child = tokio::process::Command::from(command)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("it can't be started")?;
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
        .with_context(|| format!("it takes longer than {RUN_TIMEOUT:?}"))??;
    Ok(output.into())
}

/// A program with the environment of [`Process::spawn`].
pub fn command<'a>(
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

/// Reads a stream to its end in a thread, so that it is read whatever the test is busy with.
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
