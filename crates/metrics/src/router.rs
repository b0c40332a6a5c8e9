//! What a router tells: events in, plans out, and how the queues and the directory stand.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::buckets::{SIZES, STATEMENTS};
use crate::labels::{Counters, Gauges, counters, number};
use crate::registry::Registry;

/// Directory documents, among events by filter.
const DIRECTORY: &str = "directory";
/// What can't be taken, among events by filter.
const UNKNOWN: &str = "unknown";

/// The families of a router.
///
/// Those of the ledger, the queues and the directory say how the whole installation stands, so each
/// router says the same: take the greatest, not the sum.
#[derive(Debug)]
pub struct Router {
    received: Counters<1>,
    known: Counter,
    planned: Counter,
    held: Counter,
    waiting: Gauge,
    rejected: Counters<1>,
    dead_letters: Counters<2>,
    dead_queue: &'static str,
    batch_size: Histogram,
    batch_duration: Histogram,
    statement_duration: Histogram,
    republished: Counter,
    oldest_unsettled: Gauge<f64, AtomicU64>,
    queue_ready: Gauges,
    revision: Gauge,
    gaps: Gauge,
    missing: Gauge,
}

impl Router {
    /// Registers them. `dead_queue` is where a router's dead letters go.
    pub fn new(registry: &mut Registry, dead_queue: &'static str) -> Self {
        let filters = Filter::ALL.map(Filter::name);
        let filters = filters.into_iter().chain([DIRECTORY, UNKNOWN]);
        let reasons = || Reason::ALL.into_iter().map(Reason::code);
        let dead = |reason| [("queue", dead_queue), ("reason", reason)];
        Self {
            received: registry.family(
                "events_received",
                "Events and directory documents that were taken from the broker, by filter",
                counters(filters.map(|filter| [("filter", filter)])),
            ),
            known: registry.family(
                "events_known",
                "Events that came although they were in the ledger already",
                Counter::default(),
            ),
            planned: registry.family(
                "deliveries_planned",
                "Deliveries in the plans of new events",
                Counter::default(),
            ),
            held: registry.family(
                "events_held",
                "Events that had to wait for their directory revision",
                Counter::default(),
            ),
            waiting: registry.family(
                "events_waiting",
                "Events that wait in the memory of this router for their directory revision",
                Gauge::default(),
            ),
            rejected: registry.family(
                "events_rejected",
                "Events and directory documents that can't be taken, by reason",
                counters(reasons().map(|reason| [("reason", reason)])),
            ),
            dead_letters: registry.family(
                "dead_letters",
                "Messages that were put into a dead letter queue, by queue and reason",
                counters(reasons().map(dead)),
            ),
            dead_queue,
            batch_size: registry.family(
                "routing_batch_size",
                "Events in one batch of routing",
                Histogram::new(SIZES),
            ),
            batch_duration: registry.seconds(
                "routing_batch_duration",
                "The time of one batch of routing, from its messages to their acknowledgement",
                Histogram::new(STATEMENTS),
            ),
            statement_duration: registry.seconds(
                "route_statement_duration",
                "The time of the statement that plans a batch",
                Histogram::new(STATEMENTS),
            ),
            republished: registry.family(
                "deliveries_republished",
                "Deliveries whose jobs had got lost and were published again",
                Counter::default(),
            ),
            oldest_unsettled: registry.seconds(
                "oldest_unsettled_event_age",
                "The age of the oldest event of which a delivery is owed; up to 70 s are normal, \
                 since events are marked as settled a minute later",
                Gauge::default(),
            ),
            queue_ready: registry.family(
                "queue_ready",
                "Messages that wait in a queue of the broker",
                Gauges::default(),
            ),
            revision: registry.family(
                "directory_revision",
                "The newest directory revision seen",
                Gauge::default(),
            ),
            gaps: registry.family(
                "directory_gaps",
                "Gaps in the directory's revisions that are too old to fill by themselves",
                Gauge::default(),
            ),
            missing: registry.family(
                "directory_revisions_missing",
                "Directory revisions in those gaps",
                Gauge::default(),
            ),
        }
    }

    /// Counts an event that was taken.
    pub fn event(&self, filter: Filter) {
        self.received.get_or_create(&[("filter", filter.name())]).inc();
    }

    /// Counts events that the ledger had already.
    pub fn known(&self, count: usize) {
        self.known.inc_by(number(count));
    }

    /// Counts the deliveries of new plans.
    pub fn planned(&self, deliveries: usize) {
        self.planned.inc_by(number(deliveries));
    }

    /// Counts events that begin to wait for their directory revision.
    pub fn held(&self, events: usize) {
        self.held.inc_by(number(events));
    }

    /// Notes how many events wait in memory for their directory revision.
    pub fn waiting(&self, events: usize) {
        self.waiting.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// Counts directory documents that were taken.
    pub fn documents(&self, count: usize) {
        self.received.get_or_create(&[("filter", DIRECTORY)]).inc_by(number(count));
    }

    /// Counts events that were taken and can't be read.
    pub fn unreadable(&self, count: usize) {
        self.received.get_or_create(&[("filter", UNKNOWN)]).inc_by(number(count));
    }

    /// Counts a dead letter and the events in it.
    pub fn dead_letter(&self, reason: Reason, events: usize) {
        let reason = ("reason", reason.code());
        self.rejected.get_or_create(&[reason]).inc_by(number(events));
        self.dead_letters.get_or_create(&[("queue", self.dead_queue), reason]).inc();
    }

    /// Notes one batch of routing.
    pub fn batch(&self, events: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.batch_size.observe(events as f64);
        self.batch_duration.observe(took.as_secs_f64());
    }

    /// Notes one statement that plans a batch.
    pub fn statement(&self, took: Duration) {
        self.statement_duration.observe(took.as_secs_f64());
    }

    /// Counts deliveries whose jobs had got lost and were published again.
    pub fn republished(&self, count: usize) {
        self.republished.inc_by(number(count));
    }

    /// Notes the age of the oldest event of which something is owed; zero when nothing is.
    pub fn oldest_unsettled(&self, age: Duration) {
        self.oldest_unsettled.set(age.as_secs_f64());
    }

    /// Notes how many messages wait in a queue; of one that nobody looked at yet nothing is told.
    pub fn queue(&self, name: &'static str, ready: u32) {
        self.queue_ready.get_or_create(&[("queue", name)]).set(i64::from(ready));
    }

    /// Notes how the directory stands: the newest revision, and the first and last revision of each
    /// gap that is too old to fill by itself.
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
