//! Traces of real processes: the steps that they wrote down, in the order of time.

mod replay;
mod steps;
#[cfg(test)]
mod tests;

pub use replay::{Unexplained, explain};
pub use steps::ACTIONS;

/// A step that a process wrote down, when it was done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// When it was done, in nanoseconds since 1970.
    pub at: u128,
    /// The process.
    pub process: u32,
    /// The task of the process: a worker has one for each job, or for a group of jobs.
    pub task: String,
    /// The name of the step.
    pub step: String,
    /// The batch, and the webhook unless the step concerns all deliveries of the batch. `None` for a
    /// step whose task says which deliveries it concerns.
    pub delivery: Option<(String, Option<String>)>,
    /// The sequence number of the row that the attempt writes.
    pub seq: i64,
}

/// Reads a trace, and orders it by time.
///
/// # Errors
///
/// A line that is not one of a trace.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = text.lines().map(line).collect::<Result<Vec<Line>, String>>()?;
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

fn line(text: &str) -> Result<Line, String> {
    let not_a_step = || format!("not a step: {text:?}");
    let [at, process, task, step, batch, webhook, seq] = text.split(' ').collect::<Vec<_>>()[..]
    else {
        return Err(not_a_step());
    };
    let known = |text: &str| (text != "-").then(|| text.to_owned());
    Ok(Line {
        at: at.parse().map_err(|_| not_a_step())?,
        process: process.parse().map_err(|_| not_a_step())?,
        task: task.to_owned(),
        step: step.to_owned(),
        delivery: known(batch).map(|batch| (batch, known(webhook))),
        seq: seq.parse().map_err(|_| not_a_step())?,
    })
}
