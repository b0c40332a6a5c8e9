//! The metrics of a router: events in, plans out, and the gauges of the whole installation.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::buckets::{LATENCIES, SIZES, STATEMENTS};
use crate::gauges::SystemGauges;
use crate::labels::{Counters, counters, number};
use crate::registry::Registry;

/// Directory documents, among events by filter.
const DIRECTORY: &str = "directory";
/// Events that were refused, among events by filter.
const UNKNOWN: &str = "unknown";
/// The reason for which routers pause webhooks.
const OWNER_RECREATED: &str = "owner-recreated";
/// The channels by which notices are sent.
const CHANNELS: [&str; 5] = ["exchange", "webhook", "mail", "owner-webhook", "owner-mail"];

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
    waiting: Waiting,
    rejected: Counters<1>,
    dead_letters: Counters<2>,
    dead_queue: &'static str,
    batches: Batches,
    republished: Counter,
    webhooks_paused: Counters<1>,
    notices_sent: Counters<1>,
    notices_failed: Counters<1>,
    clock_offset: Gauge<f64, AtomicU64>,
    system: SystemGauges,
}

/// The families of events that wait for the directory.
#[derive(Debug)]
struct Waiting {
    held: Counter,
    events: Gauge,
    oldest: Gauge<f64, AtomicU64>,
}

impl Waiting {
    fn new(registry: &mut Registry) -> Self {
        Self {
            held: registry.counter("events_held", "Events that had to wait for their directory revision"),
            events: registry.gauge("events_waiting", "Events that wait in the memory of this router for their directory revision"),
            oldest: registry.seconds(
                "oldest_waiting_event_timestamp",
                "The `time` of the oldest event that this router has taken and not yet routed, as far \
                 as it can be believed, else when it came, in seconds since 1970; 0 when there is none",
                Gauge::default(),
            ),
        }
    }
}

/// The families of batches of routing.
#[derive(Debug)]
struct Batches {
    size: Histogram,
    duration: Histogram,
    statement_duration: Histogram,
}

impl Batches {
    fn new(registry: &mut Registry) -> Self {
        Self {
            size: registry.family(
                "routing_batch_size",
                "Events in one batch of routing",
                Histogram::new(SIZES),
            ),
            duration: registry.times(
                "routing_batch_duration",
                "The time of one batch of routing, from its messages to their acknowledgement",
                STATEMENTS,
            ),
            statement_duration: registry.times(
                "route_statement_duration",
                "The time of the statement that plans a batch",
                STATEMENTS,
            ),
        }
    }
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
            known: registry.counter("events_known", "Duplicate events, which the ledger had already"),
            differing: registry.counter("events_differing", "Events that were not delivered because an earlier one with other content had the \
                 same source and id"),
            set_aside: registry.counter("events_set_aside", "Messages that were put off for half a minute because the database failed with \
                 them, each time"),
            matched: registry.counter("events_matched", "New events that go to at least one webhook"),
            planned: registry.counter("deliveries_planned", "Deliveries in the plans of new events"),
            event_wait: registry.times("event_wait", "From an event's own `time` until its deliveries were published; a week at most, and \
                 nothing of a time that is years off", LATENCIES),
            waiting: Waiting::new(registry),
            rejected: registry.family(
                "events_rejected",
                "Events and directory documents that were refused, by reason",
                counters(reasons().map(|reason| [("reason", reason)])),
            ),
            dead_letters: registry.dead_letters(reasons().map(dead)),
            dead_queue,
            batches: Batches::new(registry),
            republished: registry.counter("deliveries_republished", "Deliveries whose jobs were lost and published again"),
            webhooks_paused: registry.webhooks_paused([OWNER_RECREATED]),
            notices_sent: registry.family(
                "notices_sent",
                "Notices that were sent, by channel",
                counters(CHANNELS.map(|channel| [("channel", channel)])),
            ),
            notices_failed: registry.family(
                "notices_failed",
                "Failed tries to send a notice, by channel; each is tried again",
                counters(CHANNELS.map(|channel| [("channel", channel)])),
            ),
            clock_offset: registry.clock_offset(),
            system: SystemGauges::new(registry),
        }
    }

    /// Counts an event that was accepted.
    pub fn event(&self, filter: Filter) {
        self.received.get_or_create(&[("filter", filter.name())]).inc();
    }

    /// Counts events that the ledger had already.
    pub fn known(&self, count: usize) {
        self.known.inc_by(number(count));
    }

    /// Counts an event with the identity of an earlier one and other content.
    pub fn differing(&self) {
        self.differing.inc();
    }

    /// Counts messages that were put off because the database failed with them.
    pub fn set_aside(&self, messages: usize) {
        self.set_aside.inc_by(number(messages));
    }

    /// Counts a new event: whether it goes to a webhook, and, if it has a time, how long after that
    /// time its deliveries were published.
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
        self.waiting.held.inc_by(number(events));
    }

    /// Notes how many events wait in memory for their directory revision.
    pub fn waiting(&self, events: usize) {
        self.waiting.events.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// Notes when the oldest event that is not yet routed happened (Unix milliseconds).
    pub fn oldest_waiting(&self, time: Option<i64>) {
        #[expect(clippy::cast_precision_loss, reason = "exact for 200,000 years")]
        self.waiting.oldest.set(time.unwrap_or(0) as f64 / 1000.0);
    }

    /// Notes by how many seconds the database's clock is ahead of this machine's.
    pub fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    /// Counts directory documents that were accepted.
    pub fn documents(&self, count: usize) {
        self.received.get_or_create(&[("filter", DIRECTORY)]).inc_by(number(count));
    }

    /// Counts received events that can't be parsed.
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
        self.batches.size.observe(events as f64);
        self.batches.duration.observe(took.as_secs_f64());
    }

    /// Notes one statement that plans a batch.
    pub fn statement(&self, took: Duration) {
        self.batches.statement_duration.observe(took.as_secs_f64());
    }

    /// Counts deliveries whose jobs were lost and published again.
    pub fn republished(&self, count: usize) {
        self.republished.inc_by(number(count));
    }

    /// Counts webhooks that were paused because their owners are other persons now.
    pub fn paused(&self, webhooks: usize) {
        self.webhooks_paused.get_or_create(&[("reason", OWNER_RECREATED)]).inc_by(number(webhooks));
    }

    /// Counts notices that were sent by a channel, and those that could not be sent.
    pub fn notices(&self, channel: &'static str, sent: usize, failed: usize) {
        self.notices_sent.get_or_create(&[("channel", channel)]).inc_by(number(sent));
        self.notices_failed.get_or_create(&[("channel", channel)]).inc_by(number(failed));
    }

    /// The gauges of the whole installation.
    #[must_use]
    pub fn system(&self) -> &SystemGauges {
        &self.system
    }
}
