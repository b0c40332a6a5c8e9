//! How the benchmark speaks with its own processes: one line of JSON in, one line of JSON out.

use std::io::{BufRead as _, Write as _, stdin, stdout};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply<A> {
    Done(A),
    /// It was not, and why.
    Failed(String),
}

/// Answers commands until nobody is there any more who could send one.
pub(crate) fn serve<C: DeserializeOwned, A: Serialize>(
    mut answer: impl FnMut(C) -> Result<A>,
) -> Result<()> {
    for line in stdin().lock().lines() {
        let line = line.context("reading a command")?;
        let command = serde_json::from_str(&line).context("a command that is none");
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
