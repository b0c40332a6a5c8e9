//! The metrics of a router: events in, plans out, and the gauges of the whole installation.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::buckets::{LATENCIES, SIZES, STATEMENTS};
use crate::labels::{Counters, counters, number};
use crate::registry::Registry;
use crate::system_gauges::SystemGauges;

/// The value of the label `filter` for directory documents.
const DIRECTORY: &str = "directory";
/// The value of the label `filter` for messages that can't be parsed.
const UNKNOWN: &str = "unknown";

/// The families of a router.
#[derive(Debug)]
pub struct Router {
    received: Counters<1>,
    known: Counter,
    differing: Counter,
    set_aside: Counter,
    matched: Counter,
    planned: Counter,
    event_wait: Histogram,
    held: Counter,
    waiting: Gauge,
    oldest_waiting: Gauge<f64, AtomicU64>,
    rejected: Counters<1>,
    dead_letters: Counters<2>,
    dead_queue: &'static str,
    batch_size: Histogram,
    batch_duration: Histogram,
    statement_duration: Histogram,
    republished: Counter,
    clock_offset: Gauge<f64, AtomicU64>,
    system: SystemGauges,
}

impl Router {
    /// Registers the families. `dead_queue` is the queue of a router's dead letters.
    pub fn new(registry: &mut Registry, dead_queue: &'static str) -> Self {
        let filters = Filter::ALL.map(Filter::name);
        let filters = filters.into_iter().chain([DIRECTORY, UNKNOWN]);
        let reasons = || Reason::ALL.into_iter().map(Reason::code);
        let dead = |reason| [("queue", dead_queue), ("reason", reason)];
        Self {
            received: registry.family(
                "events_received",
                "Events and directory documents received from the broker, by filter",
                counters(filters.map(|filter| [("filter", filter)])),
            ),
            known: registry.family(
                "events_known",
                "Duplicate events, which were in the ledger already",
                Counter::default(),
            ),
            differing: registry.family(
                "events_differing",
                "Events that were not delivered because an earlier one with other content had the \
                 same source and id",
                Counter::default(),
            ),
            set_aside: registry.family(
                "events_set_aside",
                "Messages that were set aside for half a minute because the database failed with \
                 them; a message counts each time",
                Counter::default(),
            ),
            matched: registry.family(
                "events_matched",
                "New events that were planned for at least one webhook",
                Counter::default(),
            ),
            planned: registry.family(
                "deliveries_planned",
                "Deliveries in the plans of new events",
                Counter::default(),
            ),
            event_wait: registry.seconds(
                "event_wait",
                "The time from an event's own `time` until its deliveries were published; at most a \
                 week, without events whose `time` is years off",
                Histogram::new(LATENCIES),
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
            oldest_waiting: registry.seconds(
                "oldest_waiting_event_timestamp",
                "The `time` of the oldest event that this router has received and not yet routed, in \
                 seconds since 1970; the time of its receipt if its `time` is not plausible; 0 if there \
                 is no such event",
                Gauge::default(),
            ),
            rejected: registry.family(
                "events_rejected",
                "Events and directory documents that were refused, by reason",
                counters(reasons().map(|reason| [("reason", reason)])),
            ),
            dead_letters: registry.dead_letters(reasons().map(dead)),
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
                "Deliveries whose jobs were lost and published again",
                Counter::default(),
            ),
            clock_offset: registry.clock_offset(),
            system: SystemGauges::new(registry),
        }
    }

    /// Counts an event that was received.
    pub fn event(&self, filter: Filter) {
        self.received.get_or_create(&[("filter", filter.name())]).inc();
    }

    /// Counts duplicate events.
    pub fn known(&self, count: usize) {
        self.known.inc_by(number(count));
    }

    /// Counts an event with the source and id of an earlier one, but other content.
    pub fn differing(&self) {
        self.differing.inc();
    }

    /// Counts messages that were set aside because the database failed with them.
    pub fn set_aside(&self, messages: usize) {
        self.set_aside.inc_by(number(messages));
    }

    /// Counts a new event. `is_matched` is whether it has deliveries; `after` is the time until
    /// they were published, if the event has a time.
    pub fn routed(&self, is_matched: bool, after: Option<Duration>) {
        self.matched.inc_by(u64::from(is_matched));
        if let Some(after) = after {
            self.event_wait.observe(after.as_secs_f64());
        }
    }

    /// Counts the deliveries of new plans.
    pub fn planned(&self, deliveries: usize) {
        self.planned.inc_by(number(deliveries));
    }

    /// Counts events that begin to wait for their directory revision.
    pub fn held(&self, events: usize) {
        self.held.inc_by(number(events));
    }

    /// Sets the number of events that wait in memory for their directory revision.
    pub fn waiting(&self, events: usize) {
        self.waiting.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// Sets the time of the oldest event that is not routed yet, in Unix milliseconds.
    pub fn oldest_waiting(&self, time: Option<i64>) {
        #[expect(clippy::cast_precision_loss, reason = "exact for 200,000 years")]
        self.oldest_waiting.set(time.unwrap_or(0) as f64 / 1000.0);
    }

    /// Sets the seconds by which the database's clock is ahead of this machine's.
    pub fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    /// Counts directory documents that were received.
    pub fn documents(&self, count: usize) {
        self.received.get_or_create(&[("filter", DIRECTORY)]).inc_by(number(count));
    }

    /// Counts messages that were received and can't be parsed.
    pub fn unreadable(&self, count: usize) {
        self.received.get_or_create(&[("filter", UNKNOWN)]).inc_by(number(count));
    }

    /// Counts a dead letter and the events in it.
    pub fn dead_letter(&self, reason: Reason, events: usize) {
        let reason = ("reason", reason.code());
        self.rejected.get_or_create(&[reason]).inc_by(number(events));
        self.dead_letters.get_or_create(&[("queue", self.dead_queue), reason]).inc();
    }

    /// Records one batch of routing.
    pub fn batch(&self, events: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.batch_size.observe(events as f64);
        self.batch_duration.observe(took.as_secs_f64());
    }

    /// Records one statement that plans a batch.
    pub fn statement(&self, took: Duration) {
        self.statement_duration.observe(took.as_secs_f64());
    }

    /// Counts deliveries whose jobs were lost and published again.
    pub fn republished(&self, count: usize) {
        self.republished.inc_by(number(count));
    }

    /// The gauges of the whole installation.
    #[must_use]
    pub fn system(&self) -> &SystemGauges {
        &self.system
    }
}
