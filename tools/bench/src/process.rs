//! The processes of a run: commands whose memory is measured, and helpers, which are this binary in
//! another role and answer commands.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fanfare_testkit::Installation;
use fanfare_testkit::process::command;
use fanfare_testkit::service::{Home, Service, tail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::usage::{self, Memory};
use crate::wire::Reply;

/// The name of the log of all commands.
const COMMANDS: &str = "commands";

/// No command should take longer, not even the import of a large directory.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(10);

/// How often the memory of a command is measured.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command that must succeed; returns the most memory that it was seen with.
pub(crate) async fn run(
    home: &Home,
    installation: &Installation,
    words: &[&str],
) -> Result<Memory> {
    let output = home.open_log(COMMANDS)?;
    let mut child = Command::from(installation.command(words))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("running {}", installation.binary().display()))?;
    let mut most = Memory::default();
    let id = child.id();
    let ended = timeout(COMMAND_TIMEOUT, async {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok::<_, std::io::Error>(status);
            }
            most = id.and_then(usage::memory).unwrap_or(most);
            sleep(POLL).await;
        }
    });
    let words = words.join(" ");
    let status =
        ended.await.with_context(|| format!("`{words}` took over {COMMAND_TIMEOUT:?}"))??;
    let log = || tail(&home.log(COMMANDS));
    ensure!(status.success(), "`{words}` failed ({status}); its log ends:\n{}", log());
    Ok(most)
}

/// A process of this binary that answers commands.
#[derive(Debug)]
pub(crate) struct Helper {
    service: Service,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts this binary in another role.
    pub(crate) fn start(home: &Home, role: &str) -> Result<Self> {
        let own = std::env::current_exe().context("looking for this binary")?;
        let (service, stdin, stdout) = home.start_with_pipes(role, command(&own, &[role], []))?;
        Ok(Self { service, stdin, lines: BufReader::new(stdout).lines() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.service.id()
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
        let name = self.service.name();
        let answer = answered
            .await
            .with_context(|| format!("the {name} did not answer within {limit:?}"))?
            .with_context(|| format!("speaking with the {name}"))?;
        let Some(answer) = answer else {
            bail!("the {name} ended; its log ends:\n{}", tail(self.service.log()));
        };
        match serde_json::from_str(&answer).with_context(|| format!("the {name} said {answer}"))? {
            Reply::Done(answer) => Ok(answer),
            Reply::Failed(error) => Err(anyhow!("the {name}: {error}")),
        }
    }

    /// Kills the process, and waits until it has ended.
    pub(crate) async fn end(self) {
        self.service.kill().await;
    }
}
