//! Making the steps of an operation in the command that asked for it, and showing its progress.
//!
//! Routers make the same steps, so the operation goes on when the command is ended.

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
        line.show(&operation);
        if operation.state.has_ended() {
            line.end();
            sweep_queues(store, session).await?;
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
}

impl ProgressLine {
    fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, operation: &Operation) {
        if self.is_shown {
            output::progress(&text(operation));
        }
    }

    fn end(&self) {
        if self.is_shown {
            output::note("");
        }
    }
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
