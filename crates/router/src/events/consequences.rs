//! What follows from messages after the ledger's answer: jobs, dead letters, held messages, and what
//! becomes of the messages themselves.

use fanfare_core::event::Event;
use fanfare_core::ids::EventKey;
use fanfare_core::job::DeliveryGroup;
use fanfare_core::reject::Reason;
use fanfare_store::routing::Routed;
use uuid::Uuid;

use crate::Config;
use crate::batch_metrics::BatchMetrics;
use crate::inbound::InboundMessage;
use crate::jobs;
use crate::kept::Kept;

/// The most messages that wait in memory, so that the prefetch has room for others.
const MAX_WAITING: usize = 64;

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done when its jobs are published.
    Done,
    /// It is done when its dead letters, or the held message that replaces it, are published too.
    Kept,
    /// It waits here for the directory.
    Waits,
}

/// What follows from messages after the ledger's answer.
#[derive(Default)]
pub(super) struct Consequences {
    /// What becomes of each message.
    pub(super) fates: Vec<Fate>,
    /// Dead letters and held messages to publish.
    pub(super) kept: Vec<Kept>,
    /// The rows of messages that came back and are routed.
    pub(super) settled_rows: Vec<Uuid>,
    /// The number of messages that wait here.
    waiting: usize,
    /// The new events, for jobs.
    pub(super) groups: Vec<DeliveryGroup>,
    /// The events whose jobs may be lost.
    pub(super) suspects: Vec<EventKey>,
    pub(super) metrics: BatchMetrics,
}

pub(super) fn consequences(
    config: &Config,
    messages: &[InboundMessage],
    results: Vec<Vec<(&Event, Routed)>>,
    in_doubt: bool,
) -> Consequences {
    let mut it = Consequences::default();
    for (message, results) in messages.iter().zip(results) {
        let has = |wanted: Routed| results.iter().any(|(_, routed)| *routed == wanted);
        let fate = if has(Routed::Forgotten) {
            it.kept.push(message.forgotten(config));
            message.count_dead(&mut it.metrics, Reason::DirectoryBehind);
            Fate::Kept
        } else if has(Routed::Held) {
            it.hold(config, message)
        } else {
            let rejected = message.rejected((config.clock)());
            let fate = if rejected.is_empty() { Fate::Done } else { Fate::Kept };
            it.kept.extend(rejected);
            it.settled_rows.extend(message.settled_row());
            message.count(&mut it.metrics, &results, (config.clock)());
            it.suspects.extend(message.suspects(&results, in_doubt));
            it.groups.extend(jobs::group(message.batch_key(), results));
            fate
        };
        it.fates.push(fate);
    }
    it
}

impl Consequences {
    /// Holds a message for its directory revision: here if the directory may catch up soon, and
    /// otherwise in the delay ladder, until it is overdue.
    fn hold(&mut self, config: &Config, message: &InboundMessage) -> Fate {
        if !message.has_waited() {
            config.metrics.held(message.len());
        }
        if message.may_wait_here() && self.waiting < MAX_WAITING {
            self.waiting += 1;
            return Fate::Waits;
        }
        if message.is_overdue(config) {
            self.kept.push(message.overdue(config));
            message.count_dead(&mut self.metrics, Reason::DirectoryBehind);
        } else {
            self.kept.push(message.hold(config));
        }
        Fate::Kept
    }
}
