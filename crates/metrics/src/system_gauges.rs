//! The gauges of the whole installation: the ledger, the queues and the directory.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::revisions::Hold;
use prometheus_client::metrics::gauge::Gauge;

use crate::labels::Gauges;
use crate::registry::Registry;

/// The seconds that a message waits on each level of the delay ladder, from the lowest up.
const DELAYS: [&str; 18] = [
    "1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024", "2048", "4096", "8192",
    "16384", "32768", "65536", "131072",
];

/// The families that all routers report with the same values: use the maximum, not the sum.
#[derive(Debug)]
pub struct SystemGauges {
    oldest_unsettled: Gauge<f64, AtomicU64>,
    queue_ready: Gauges,
    retries_waiting: Gauges,
    revision: Gauge,
    gaps: Gauge,
    missing: Gauge,
    held: Gauges,
    void: Gauge,
    webhooks_held: Gauge,
}

impl SystemGauges {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            oldest_unsettled: registry.seconds(
                "oldest_unsettled_event_age",
                "The age of the oldest event with a delivery that has not ended; up to 70 s are \
                 normal, since events are marked as settled up to a minute later",
                Gauge::default(),
            ),
            queue_ready: registry.family(
                "queue_ready",
                "Messages that wait in a queue of the broker",
                Gauges::default(),
            ),
            retries_waiting: registry.family(
                "retries_waiting",
                "Messages in the delay queues of the broker, nearly all of them retries, by the delay \
                 of the queue in seconds; a long delay has up to four steps",
                Gauges::default(),
            ),
            revision: registry.family(
                "directory_revision",
                "The newest directory revision that has arrived",
                Gauge::default(),
            ),
            gaps: registry.family(
                "directory_gaps",
                "Gaps in the directory's revisions that are older than the gap wait",
                Gauge::default(),
            ),
            missing: registry.family(
                "directory_revisions_missing",
                "Directory revisions in those gaps",
                Gauge::default(),
            ),
            held: registry.family(
                "directory_held",
                "1 while every event is held for this reason, otherwise 0",
                Gauges::default(),
            ),
            void: registry.family(
                "directory_void",
                "Users and roles whose newest document was refused, so that they grant nothing",
                Gauge::default(),
            ),
            webhooks_held: registry.family(
                "webhooks_held",
                "Webhooks that are held because their receivers asked to wait",
                Gauge::default(),
            ),
        }
    }

    /// Sets the age of the oldest event with a delivery that has not ended; zero if there is none.
    pub fn oldest_unsettled(&self, age: Duration) {
        self.oldest_unsettled.set(age.as_secs_f64());
    }

    /// Sets the number of webhooks that are held because their receivers asked to wait.
    pub fn webhooks_held(&self, count: i64) {
        self.webhooks_held.set(count);
    }

    /// Sets the number of messages in a queue. The gauge of a queue does not exist before the first
    /// call.
    pub fn queue(&self, name: &'static str, ready: u32) {
        self.queue_ready.get_or_create(&[("queue", name)]).set(i64::from(ready));
    }

    /// Sets the number of messages on each level of the delay ladder, from the lowest up.
    pub fn retries_waiting(&self, levels: impl IntoIterator<Item = u32>) {
        for (delay, ready) in DELAYS.into_iter().zip(levels) {
            self.retries_waiting.get_or_create(&[("delay", delay)]).set(i64::from(ready));
        }
    }

    /// Sets the reason why every event is held, if there is one, and the number of users and roles
    /// whose newest document was refused.
    pub fn directory_hold(&self, hold: Option<Hold>, void: usize) {
        for reason in Hold::ALL {
            let applies = i64::from(hold == Some(reason));
            self.held.get_or_create(&[("reason", reason.code())]).set(applies);
        }
        self.void.set(i64::try_from(void).unwrap_or(i64::MAX));
    }

    /// Sets the newest revision of the directory, and the gaps that are older than the gap wait, by
    /// their first and last revision.
    pub fn directory(&self, newest: i64, gaps: impl IntoIterator<Item = (i64, i64)>) {
        let (mut count, mut missing) = (0, 0_i64);
        for (first, last) in gaps {
            count += 1;
            missing = missing.saturating_add(last.saturating_sub(first).saturating_add(1));
        }
        self.revision.set(newest);
        self.gaps.set(count);
        self.missing.set(missing);
    }
}
