//! Gauges of the whole installation: the ledger, the queues and the directory.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::notice::Stage;
use fanfare_core::revisions::Hold;
use prometheus_client::metrics::gauge::Gauge;

use crate::labels::Gauges;
use crate::registry::Registry;

/// The seconds that a message waits on each level of the delay ladder, from the lowest up.
const DELAYS: [&str; 18] = [
    "1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024", "2048", "4096", "8192",
    "16384", "32768", "65536", "131072",
];

/// The families that have the same values in each router: take the maximum, not the sum.
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
    notice_causes: Gauges,
    partitions_ahead: Gauge<f64, AtomicU64>,
    retention_overdue: Gauge<f64, AtomicU64>,
    database_size: Gauges,
}

/// A gauge whose zero would be a fault, before its first measurement.
fn unmeasured() -> Gauge<f64, AtomicU64> {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(f64::NAN);
    gauge
}

impl SystemGauges {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            oldest_unsettled: registry.seconds(
                "oldest_unsettled_event_age",
                "The age of the oldest event of which a delivery is owed; up to 70 s are normal, \
                 since events are marked as settled up to a minute later",
                Gauge::default(),
            ),
            queue_ready: registry.family(
                "queue_ready",
                "Messages that wait in a queue of the broker",
                Gauges::default(),
            ),
            retries_waiting: registry.family(
                "retries_waiting",
                "Messages that wait in the broker for their time, nearly all of them retries, by the \
                 seconds of the step that they wait in; a long wait has up to four steps",
                Gauges::default(),
            ),
            revision: registry.gauge("directory_revision", "The newest directory revision seen"),
            gaps: registry.gauge("directory_gaps", "Gaps in the directory's revisions that are too old to fill by themselves"),
            missing: registry.gauge("directory_revisions_missing", "Directory revisions in those gaps"),
            held: registry.family(
                "directory_held",
                "1 while every event is held for this reason, else 0",
                Gauges::default(),
            ),
            void: registry.gauge("directory_void", "Users and roles whose newest document was refused, so that they grant nothing"),
            webhooks_held: registry.gauge("webhooks_held", "Webhooks whose receivers asked to wait, so that nothing is sent to them now"),
            notice_causes: registry.family(
                "notice_causes",
                "Open causes of notices, by the worst stage that they have reached",
                Gauges::default(),
            ),
            partitions_ahead: registry.seconds(
                "ledger_partitions_ahead",
                "The time from now to the end of the last day for which the ledger has partitions; \
                 routers make them 7 days ahead. NaN until it was measured",
                unmeasured(),
            ),
            retention_overdue: registry.seconds(
                "retention_overdue",
                "For how long the oldest day of the ledger, payload or month of the audit trail should \
                 have been removed; 0 while retention keeps up",
                Gauge::default(),
            ),
            database_size: registry.family(
                "database_size_bytes",
                "The bytes of what the database holds with its indexes, by kind: events, attempts, \
                 keys, audit, and the rest",
                Gauges::default(),
            ),
        }
    }

    /// Notes the size of one kind of what the database holds, in bytes.
    pub fn database_size(&self, kind: &'static str, bytes: i64) {
        self.database_size.get_or_create(&[("kind", kind)]).set(bytes);
    }

    /// Notes the age of the oldest event with a delivery that is owed; zero if there is none.
    pub fn oldest_unsettled(&self, age: Duration) {
        self.oldest_unsettled.set(age.as_secs_f64());
    }

    /// Notes how many webhooks are held because their receivers asked for a wait.
    pub fn webhooks_held(&self, count: i64) {
        self.webhooks_held.set(count);
    }

    /// Notes how many causes of notices are open, by the worst stage that they have reached.
    pub fn notice_causes(&self, open: &[(Stage, i64)]) {
        for stage in Stage::ALL {
            let count = open.iter().find(|(it, _)| *it == stage).map_or(0, |(_, count)| *count);
            self.notice_causes.get_or_create(&[("stage", stage.code())]).set(count);
        }
    }

    /// Notes how far the ledger's partitions are made ahead, and how far behind retention is.
    pub fn partitions(&self, ahead: Duration, overdue: Duration) {
        self.partitions_ahead.set(ahead.as_secs_f64());
        self.retention_overdue.set(overdue.as_secs_f64());
    }

    /// Notes how many messages wait in a queue. A queue has no sample before its first note.
    pub fn queue(&self, name: &'static str, ready: u32) {
        self.queue_ready.get_or_create(&[("queue", name)]).set(i64::from(ready));
    }

    /// Notes how many messages wait on each level of the delay ladder, from the lowest up.
    pub fn retries_waiting(&self, levels: impl IntoIterator<Item = u32>) {
        for (delay, ready) in DELAYS.into_iter().zip(levels) {
            self.retries_waiting.get_or_create(&[("delay", delay)]).set(i64::from(ready));
        }
    }

    /// Notes why every event is held, if that is so, and how many users and roles grant nothing
    /// because their newest document was refused.
    pub fn directory_hold(&self, hold: Option<Hold>, void: usize) {
        for reason in Hold::ALL {
            let applies = i64::from(hold == Some(reason));
            self.held.get_or_create(&[("reason", reason.code())]).set(applies);
        }
        self.void.set(i64::try_from(void).unwrap_or(i64::MAX));
    }

    /// Notes the state of the directory: the newest revision, and the first and last revision of
    /// each gap that is too old to fill by itself.
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
