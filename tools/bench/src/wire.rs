//! The protocol between the benchmark and its processes: one line of JSON for each command and
//! answer.

use std::io::{BufRead as _, Write as _, stdin, stdout};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply<A> {
    Done(A),
    /// The command failed, with the reason.
    Failed(String),
}

/// Answers commands until the standard input ends.
pub(crate) fn serve<C: DeserializeOwned, A: Serialize>(
    mut answer: impl FnMut(C) -> Result<A>,
) -> Result<()> {
    for line in stdin().lock().lines() {
        let line = line.context("reading a command")?;
        let command = serde_json::from_str(&line).context("parsing a command");
        let reply = match command.and_then(&mut answer) {
            Ok(answer) => Reply::Done(answer),
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        let mut out = stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&reply)?).context("answering a command")?;
        out.flush().context("answering a command")?;
    }
    Ok(())
}
