//! The steps that can happen.

use crate::state::{Body, Process};

/// A step. The names are those of the failpoints in the code (`fanfare_failpoints::Step`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A router gets the event.
    RouterTakes(u8),
    /// A router commits the plan, or finds that it is there.
    RouterPlans(u8),
    /// A router publishes the job of the plan.
    RouterPublishes(u8),
    /// A router acknowledges the event.
    RouterAcknowledges(u8),
    /// The reconciler publishes a job for what is owed and has none.
    Reconciles(u8),
    /// A worker gets a job.
    WorkerTakes(u8, Body),
    /// A worker looks at its job: it asks for a lease where one is needed.
    WorkerBegins(u8),
    /// A worker reads the history after it got its lease, and has access decided.
    WorkerReads(u8),
    /// A worker puts off an attempt whose endpoint gets no request now, or that may not be decided now.
    WorkerDefers(u8),
    /// The POST leaves, and succeeds or fails.
    WorkerSends(u8, bool),
    /// A slow attempt has a lease, so its job may be acknowledged before the answer.
    WorkerReleases(u8),
    /// A worker commits the row.
    WorkerRecords(u8),
    /// A worker publishes what follows.
    WorkerPublishes(u8),
    /// A worker acknowledges its job.
    WorkerAcknowledges(u8),
    /// The owner loses access.
    Revoked,
    /// A lease expires whose holder is not about to use it.
    LeaseExpires,
    /// The database session of a lease's holder was seen to have ended, twice, with a grace in between.
    HolderFoundDead,
    /// Half a minute has passed since the plan.
    PlanAges,
    /// A stopped process goes on.
    Continues(Process),
    /// The broker ends the session of a stopped process.
    SessionExpires(Process),
    /// Fault: SIGKILL, and a new process.
    Killed(Process),
    /// Fault: SIGSTOP.
    Stopped(Process),
    /// Fault: the session ends, and the process goes on with what it has under way.
    SessionLost(Process),
    /// Fault: the sessions with the broker and with the database end, and the process begins no other
    /// one for longer than the grace.
    CutOff(Process),
    /// Fault: the broker loses all messages.
    Wiped,
    /// Fault: a queue refuses the job that follows; the ledger has it.
    PublishRefused(u8),
}
