//! What to do with a delivery whose attempt is due: one decision from facts that were read before.
//!
//! The worker reads the [`Facts`] of each delivery, [`decide`] makes the decision, and the worker
//! carries it out. The facts are of one time, [`Facts::now`], so that they agree with each other.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::endpoint::Cause;
use crate::explain::OwnerState;
use crate::outcome::{DeadReason, DropReason, State, plan_holds};
use crate::suspect::{Suspicion, Unrecorded};

/// Two times that are nearer to each other than this may be in either order, because they may be from
/// different clocks.
const CLOCK_UNCERTAINTY: Duration = Duration::from_secs(30);

/// The facts about a delivery whose attempt is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts {
    /// The time of the facts.
    pub now: DateTime<Utc>,
    /// The sequence number of the row that the attempt will write, as the job names it.
    pub sequence: i32,
    /// The broker has delivered the job before, so its worker may have ended before it published the
    /// follow-up of a row.
    pub redelivered: bool,
    /// The answer to the request for a lease.
    pub lease: LeaseAnswer,
    /// When the plan was made; `None` when the ledger does not know the events.
    pub planned_at: Option<DateTime<Utc>>,
    /// The last row of the delivery; `None` while it has none.
    pub last: Option<LastRow>,
    /// When the series of attempts began.
    pub started_at: DateTime<Utc>,
    /// The state of the webhook.
    pub webhook: WebhookState,
    /// The state of the owner.
    pub owner: OwnerState,
    /// Whether no decision may be made by the directory, because it is incomplete or a snapshot was
    /// refused.
    pub directory_held: bool,
    /// The number of events.
    pub events: usize,
    /// Whether the payload of one of the events was removed.
    pub payload_removed: bool,
    /// The indexes of the events that the owner may not read; `None` when the directory was not asked.
    pub denied: Option<Vec<usize>>,
    /// Why the endpoint gets no request now, if so.
    pub deferred: Option<Deferred>,
    /// Whether the installation is in shadow mode, in which nothing is sent.
    pub shadow: bool,
    /// The age of a series after which no attempt is made.
    pub deadline: Duration,
}

/// The answer to the request for a lease on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// No lease was asked for: no other worker can have the attempt, or it is not to be made now.
    NotAsked,
    /// This worker has the lease. Attempts with this sequence number may have begun before and were
    /// never recorded.
    Granted(Unrecorded),
    /// Another worker has the lease, or had it when it died.
    HeldElsewhere,
    /// Another worker has the lease, and that worker is probably dead: the lease will soon be void.
    HolderGone,
    /// The ledger has the row already.
    Past,
}

/// The last row of a delivery in the ledger, as far as the decision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRow {
    /// Its sequence number.
    pub sequence: i32,
    /// The delivery's state after it.
    pub state: State,
    /// When the next attempt is due.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// The state of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookState {
    /// It gets notifications.
    Active,
    /// It is paused.
    Paused,
    /// It does not exist any more.
    Deleted,
    /// It exists and can't be read, for example because the key of its secrets is missing.
    Unreadable,
}

/// Why a delivery may not be attempted now, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferred {
    /// The reason.
    pub cause: Cause,
    /// How long to wait.
    pub wait: Duration,
}

impl Deferred {
    /// For a webhook that can't be read until an operator has done something.
    pub const UNREADABLE: Self = Self { cause: Cause::Unreadable, wait: Duration::from_mins(1) };
    /// For a decision that the directory can't make now.
    pub const DIRECTORY_HELD: Self =
        Self { cause: Cause::DirectoryHeld, wait: Duration::from_secs(8) };
}

/// What to do with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send it.
    Send(Sending),
    /// Ask the directory which of the events the owner may read, and decide again. Nothing is sent
    /// without the answer.
    CheckAccess,
    /// Put it off for this reason.
    Defer(Deferred),
    /// Put it off until the lease of another worker must be over.
    Contended,
    /// Put it off for a moment, because the worker that has the lease is probably dead.
    HolderGone,
    /// Put it off until its time has come: the wait is longer than the ladder, or the broker shortened
    /// it.
    NotYetDue,
    /// Drop it for this reason.
    Drop(DropReason),
    /// Give it up for this reason, without another attempt.
    Dead(DeadReason),
    /// The attempt was made. Publish the follow-up of its row again, which may have been lost.
    RepublishFollowUp,
    /// Do nothing: the attempt was made.
    Superseded,
    /// Do nothing: the job is not for the next sequence number, although the attempt was not made.
    OutOfSequence,
}

/// How a delivery is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The indexes of the events that are left out, because the owner may not read them.
    pub left_out: Vec<usize>,
    /// Whether it is a first attempt that the plan alone decides about.
    pub by_plan: bool,
    /// Whether it is to be made while nothing else is under way in its worker.
    pub solo: bool,
}

/// Decides about a delivery whose attempt is due.
#[must_use]
pub fn decide(facts: &Facts) -> Decision {
    let suspicion = match facts.lease {
        LeaseAnswer::Past if facts.redelivered => return Decision::RepublishFollowUp,
        LeaseAnswer::Past => return Decision::Superseded,
        LeaseAnswer::HeldElsewhere => return Decision::Contended,
        LeaseAnswer::HolderGone => return Decision::HolderGone,
        LeaseAnswer::Granted(unrecorded) => unrecorded.suspicion(),
        LeaseAnswer::NotAsked => Suspicion::None,
    };
    let undeliverable = match facts.webhook {
        WebhookState::Active => None,
        WebhookState::Paused => Some(DropReason::WebhookPaused),
        WebhookState::Deleted => Some(DropReason::WebhookDeleted),
        // It waits for the operator, even past its deadline.
        WebhookState::Unreadable => return Decision::Defer(Deferred::UNREADABLE),
    };
    let Some(planned_at) = facts.planned_at else {
        return Decision::Dead(DeadReason::LedgerLost);
    };
    if !facts.is_next() {
        return Decision::OutOfSequence;
    }
    if facts.last.is_some_and(|last| last.time_left(facts.now).is_some()) {
        return Decision::NotYetDue;
    }
    if suspicion == Suspicion::Poison {
        return Decision::Dead(DeadReason::Poison);
    }
    if facts.is_expired() {
        return Decision::Dead(DeadReason::Expired);
    }
    let removed = facts.payload_removed.then_some(DropReason::PayloadRemoved);
    if let Some(reason) = undeliverable.or(removed) {
        return Decision::Drop(reason);
    }
    let by_plan = facts.last.is_none() && plan_holds(planned_at, facts.now);
    let left_out = match if by_plan { Ok(Vec::new()) } else { permission(facts) } {
        Ok(left_out) => left_out,
        Err(decision) => return decision,
    };
    if facts.shadow {
        // Everything else was decided as always, and no endpoint has to be spared.
        return Decision::Drop(DropReason::Shadow);
    }
    match facts.deferred {
        Some(deferred) => Decision::Defer(deferred),
        None => Decision::Send(Sending { left_out, by_plan, solo: suspicion == Suspicion::Alone }),
    }
}

/// The events that must be left out by the present directory, or the decision if nothing may be sent
/// now.
fn permission(facts: &Facts) -> Result<Vec<usize>, Decision> {
    // The refused document may have revoked this access.
    if facts.directory_held {
        return Err(Decision::Defer(Deferred::DIRECTORY_HELD));
    }
    match facts.owner {
        OwnerState::Enabled => {}
        OwnerState::Disabled => return Err(Decision::Drop(DropReason::OwnerDisabled)),
        OwnerState::Deleted => return Err(Decision::Drop(DropReason::OwnerDeleted)),
    }
    match &facts.denied {
        None => Err(Decision::CheckAccess),
        Some(denied) if denied.len() >= facts.events => {
            Err(Decision::Drop(DropReason::AccessRevoked))
        }
        Some(denied) => Ok(denied.clone()),
    }
}

impl Facts {
    /// Whether the job is for the next row.
    fn is_next(&self) -> bool {
        match self.last {
            None => self.sequence == 1,
            Some(last) => last.sequence + 1 == self.sequence && !last.state.is_final(),
        }
    }

    /// Whether a delivery that was deferred many times is past its deadline. A retry is never due so
    /// late, even if the ladder lengthens its wait by an eighth.
    fn is_expired(&self) -> bool {
        let age = (self.now - self.started_at).to_std().unwrap_or_default();
        age > self.deadline + self.deadline / 8 + CLOCK_UNCERTAINTY
    }
}

impl LastRow {
    /// The time that the next attempt still has to wait; `None` if its time has come.
    #[must_use]
    pub fn time_left(&self, now: DateTime<Utc>) -> Option<Duration> {
        (self.next_attempt_at? - now).to_std().ok().filter(|left| !left.is_zero())
    }
}

/// An earlier decision that an owner may read an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    /// The directory revision by which it was made.
    pub revision: i64,
    /// When it was made.
    pub at: DateTime<Utc>,
}

impl Permitted {
    /// Whether the decision still holds, so that the directory need not be asked: nothing has changed
    /// since. `revision` is the directory's newest, and `late_at` is when a document last came after a
    /// newer one. Such a document changes the state of a revision, so decisions from before it, or by a
    /// clock that may be behind, are made again.
    #[must_use]
    pub fn holds(self, revision: i64, late_at: Option<DateTime<Utc>>) -> bool {
        let is_after = |late: DateTime<Utc>| {
            (self.at - late).to_std().is_ok_and(|since| since > CLOCK_UNCERTAINTY)
        };
        self.revision == revision && late_at.is_none_or(is_after)
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
