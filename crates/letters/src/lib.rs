//! Dead letters in two places: the index of the ledger, which people read, and the queues, which scripts
//! read. This crate keeps both the same.
//!
//! - [`take_census`] compares a queue with the index. It adds what the broker or other programs put into
//!   the queue, and notes what others took from it.
//! - [`sweep()`] removes the messages of settled letters from their queue.
//! - [`dead_delivery`] makes the letter of a delivery from the ledger.
//! - [`step`] makes a step of a bulk operation, and [`again()`] the message of an event that is replayed.
//!
//! Everything may end at any point: the index says what is open, and a settled letter whose message is
//! still in its queue is neither listed nor replayed.

mod again;
mod census;
mod delivery;
mod operation;
mod sweep;

use fanfare_broker::BrokerError;
use fanfare_store::StoreError;

pub use again::again;
pub use census::{PATIENCE, begin_alone, difference, has_unknown, take_census};
pub use delivery::dead_delivery;
pub use operation::{StepError, WAIT, step, sweep_queues};
pub use sweep::sweep;

/// Why the work stopped. It goes on where it stopped when it is begun again.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The broker did not answer, or refused the operation.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}
