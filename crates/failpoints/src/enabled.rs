//! Failpoints that tests have compiled in.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use fail::FailScenario;

use crate::{Step, Subject};

/// The variable with the path of the file to which steps are appended.
const TRACE: &str = "FANFARE_TRACE_STEPS";

static TRACE_FILE: OnceLock<File> = OnceLock::new();

/// The failpoints of a process, until it is dropped.
#[must_use]
pub struct Active {
    _scenario: FailScenario<'static>,
}

/// Reads the environment variables.
///
/// # Panics
///
/// If `FAILPOINTS` is not valid, or the file of the trace can't be opened: the test is wrong.
pub fn start() -> Active {
    if let Some(path) = std::env::var_os(TRACE) {
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
        // Set once: a process has one `main`.
        let _ = TRACE_FILE.set(file);
    }
    Active { _scenario: FailScenario::setup() }
}

/// Traces that a step is reached, and then ends the process if its failpoint says so.
pub fn reached<Subjects>(step: Step, subjects: impl FnOnce() -> Subjects)
where
    Subjects: IntoIterator<Item: Into<Subject>>,
{
    if let Some(file) = TRACE_FILE.get() {
        trace(file, step, subjects().into_iter().map(Into::into));
    }
    if fail::eval(step.name(), |_| ()).is_some() {
        eprintln!("failpoint {} ends the process", step.name());
        process::abort();
    }
}

/// Appends one line for each subject: the time in nanoseconds, the process, the task, the step, and
/// the subject. All lines of a step are one write, which the system does not interleave with others.
fn trace(mut file: &File, step: Step, subjects: impl Iterator<Item = Subject>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let task = tokio::task::try_id().map_or_else(|| "main".to_owned(), |id| id.to_string());
    let start = format!("{now} {} {task} {step:?}", process::id());
    let mut lines = String::new();
    for Subject { batch, webhook, seq } in subjects {
        let webhook = webhook.map_or_else(|| "-".to_owned(), |webhook| webhook.to_string());
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{start} {batch} {webhook} {seq}");
    }
    if lines.is_empty() {
        lines = format!("{start} - - 0\n");
    }
    if let Err(error) = file.write_all(lines.as_bytes()) {
        eprintln!("failed to trace {}: {error}", step.name());
    }
}
