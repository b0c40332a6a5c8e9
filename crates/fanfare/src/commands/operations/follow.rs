//! Making the steps of an operation in the command that asked for it, and showing its progress.
//!
//! Routers make the same steps, so the operation goes on when the command is ended.

use std::cell::Cell;
use std::io::IsTerminal as _;

use anyhow::Context as _;
use fanfare_broker::Session;
use fanfare_core::operation::State;
use fanfare_letters::{WAIT, step, sweep_queues};
use fanfare_store::Store;
use fanfare_store::operations::Operation;
use uuid::Uuid;

use crate::output;

/// Makes steps until the operation has ended. Returns how it ended.
pub(crate) async fn follow(
    store: &Store,
    session: &Session,
    id: Uuid,
) -> anyhow::Result<Operation> {
    let line = ProgressLine::new();
    loop {
        let stepped = step(store, session, id).await;
        let find = store.operation_find(id).await?;
        let operation = find.context("the operation was removed")?;
        line.show(&text(&operation));
        if operation.state.has_ended() {
            line.end();
            sweep_queues(store, session, |left| line.show(&swept(left))).await?;
            line.end();
            return Ok(operation);
        }
        // A router goes on with what could not be published.
        if !stepped? || operation.state == State::Paused {
            tokio::time::sleep(WAIT).await;
        }
    }
}

/// A line on stderr that is written again and again, if a person sees it.
struct ProgressLine {
    is_shown: bool,
    is_open: Cell<bool>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), is_open: Cell::new(false) }
    }

    fn show(&self, text: &str) {
        if self.is_shown {
            output::progress(text);
            self.is_open.set(true);
        }
    }

    /// Ends the line, if something is on it.
    fn end(&self) {
        if self.is_open.replace(false) {
            output::note("");
        }
    }
}

/// The progress of the removal that follows.
fn swept(left: u64) -> String {
    format!("{left} messages of settled dead letters removed from their queue")
}

/// The progress in words.
fn text(operation: &Operation) -> String {
    let counts = &operation.counts;
    let (done, total) = (counts.settled + counts.kept(), counts.total);
    let mut text = format!("{done} of {total}");
    for (count, what) in [
        (counts.delivered, "delivered"),
        (counts.failed, "failed again"),
        (counts.dropped, "dropped"),
        (counts.kept(), "kept"),
    ] {
        if count > 0 {
            text = format!("{text}, {count} {what}");
        }
    }
    if operation.state == State::Paused {
        text.push_str(", paused");
    }
    text
}
