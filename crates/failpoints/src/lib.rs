//! Failpoints: the steps of the protocol, between two durable actions, at which a test can end a
//! process and which it can trace.
//!
//! [`Step`] lists all of them. A step is reached when its durable action has been done and the next one
//! has not begun: [`failpoint!`] marks the place. Without the feature `enabled`, which no release
//! has, the mark compiles to nothing.
//!
//! With the feature, two environment variables have an effect:
//!
//! - `FAILPOINTS`, in the syntax of the crate `fail`: `worker-records=5%return` aborts the process
//!   every twentieth time that it has recorded an attempt.
//! - `FANFARE_TRACE_STEPS` names a file to which each step is appended. `fanfare-model` replays such a
//!   trace.

#[cfg(feature = "enabled")]
mod enabled;
mod step;

#[cfg(feature = "enabled")]
pub use enabled::{Active, reached, start};
pub use step::Step;

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::AttemptRef;

/// What a step was about, as a trace names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The batch, or the single event.
    pub batch: BatchKey,
    /// The webhook; `None` for a step that concerns all deliveries of the batch.
    pub webhook: Option<WebhookId>,
    /// The sequence number of the row that the attempt writes; 0 where there is none.
    pub seq: i32,
}

impl From<AttemptRef> for Subject {
    fn from(AttemptRef { batch, webhook, sequence: entry, .. }: AttemptRef) -> Self {
        Self { batch, webhook: Some(webhook), seq: entry }
    }
}

impl From<&AttemptRef> for Subject {
    fn from(due: &AttemptRef) -> Self {
        (*due).into()
    }
}

impl From<BatchKey> for Subject {
    fn from(batch: BatchKey) -> Self {
        Self { batch, webhook: None, seq: 0 }
    }
}

/// Marks that a step is reached: `failpoint!(WorkerRecords, [due])`. The second argument yields what it
/// was about; it is evaluated only if failpoints are enabled.
#[macro_export]
macro_rules! failpoint {
    ($step:ident) => {
        $crate::reached($crate::Step::$step, || ::core::iter::empty::<$crate::Subject>())
    };
    ($step:ident, $subjects:expr) => {
        $crate::reached($crate::Step::$step, || $subjects)
    };
}

/// Failpoints that are compiled out.
#[cfg(not(feature = "enabled"))]
mod disabled {
    use super::{Step, Subject};

    /// The failpoints of a process: there are none.
    #[must_use]
    #[derive(Debug)]
    pub struct Active;

    /// Does nothing: failpoints are compiled out.
    pub fn start() -> Active {
        Active
    }

    /// Does nothing: failpoints are compiled out.
    #[inline]
    pub fn reached<Subjects>(_: Step, _: impl FnOnce() -> Subjects)
    where
        Subjects: IntoIterator<Item: Into<Subject>>,
    {
    }
}

#[cfg(not(feature = "enabled"))]
pub use disabled::{Active, reached, start};
