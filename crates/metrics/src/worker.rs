//! The metrics of a worker: attempts, their follow-ups, and deliveries that were not attempted.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::answer::Failure;
use fanfare_core::endpoint::Cause;
use fanfare_core::outcome::{DeadReason, DropReason, Outcome};
use fanfare_core::webhook::PauseReason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::buckets::{ATTEMPTS, LATENCIES, RETRIES, SIZES, STATEMENTS};
use crate::labels::{Counters, Labels, counters, number};
use crate::registry::Registry;

/// Why a delivery was put off without an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferral {
    /// It is in doubt: another worker may have made the attempt, or be making it.
    Uncertain,
    /// Another worker has claimed it.
    Claimed,
    /// Its time has not come: the wait is longer than the ladder.
    Early,
    /// Its endpoint gets no request now, or it can't be decided now.
    Endpoint(Cause),
}

impl Deferral {
    const ALL: [Self; 11] = [
        Self::Uncertain,
        Self::Claimed,
        Self::Early,
        Self::Endpoint(Cause::Failing),
        Self::Endpoint(Cause::Busy),
        Self::Endpoint(Cause::Silent),
        Self::Endpoint(Cause::RateLimit),
        Self::Endpoint(Cause::Held),
        Self::Endpoint(Cause::Paced),
        Self::Endpoint(Cause::Unreadable),
        Self::Endpoint(Cause::DirectoryHeld),
    ];

    fn code(self) -> &'static str {
        match self {
            Self::Uncertain => "uncertain",
            Self::Claimed => "claimed",
            Self::Early => "early",
            Self::Endpoint(cause) => cause.code(),
        }
    }
}

const DROPS: [DropReason; 7] = DropReason::ALL;

/// The reasons for which workers pause webhooks.
const GONE: &str = "gone";
const FAILING: &str = "failing";

const DEATHS: [DeadReason; 4] = DeadReason::ALL;

const FAILURES: [Failure; 6] = [
    Failure::Timeout,
    Failure::Connect,
    Failure::Dns,
    Failure::Tls,
    Failure::Protocol,
    Failure::BlockedTarget,
];

/// The families of a worker.
#[derive(Debug)]
pub struct Worker {
    attempts: Counters<2>,
    attempt_duration: Histogram,
    delivery_latency: Histogram,
    in_flight: Gauge,
    breakers_open: Gauge,
    not_sent: NotSent,
    retry_delay: Histogram,
    dead_letters: Counters<2>,
    dead_queue: &'static str,
    unpublished: Counters<1>,
    unknown_jobs: Counter,
    webhooks_paused: Counters<1>,
    ledger: Ledger,
    clock_offset: Gauge<f64, AtomicU64>,
}

/// The families of what was not sent.
#[derive(Debug)]
struct NotSent {
    deferred: Counters<1>,
    dropped: Counters<1>,
    partial: Counter,
}

impl NotSent {
    fn new(registry: &mut Registry) -> Self {
        Self {
            deferred: registry.family(
                "deliveries_deferred",
                "Deferrals of deliveries without an attempt, by reason",
                counters(Deferral::ALL.map(|reason| [("reason", reason.code())])),
            ),
            dropped: registry.family(
                "deliveries_dropped",
                "Deliveries that were dropped, by reason",
                counters(DROPS.map(|reason| [("reason", reason.code())])),
            ),
            partial: registry.counter(
                "attempts_partial",
                "Attempts that left out events which the owner may not have any more",
            ),
        }
    }
}

/// The families of the writes to the ledger.
#[derive(Debug)]
struct Ledger {
    batch_size: Histogram,
    write_duration: Histogram,
    duplicates: Counter,
}

impl Ledger {
    fn new(registry: &mut Registry) -> Self {
        Self {
            batch_size: registry.family(
                "ledger_batch_size",
                "Rows that were written into the ledger in one statement",
                Histogram::new(SIZES),
            ),
            write_duration: registry.times(
                "ledger_write_duration",
                "The time of a statement that writes into the ledger",
                STATEMENTS,
            ),
            duplicates: registry.counter(
                "attempts_duplicate",
                "Attempts that the ledger had already: the receivers got duplicates",
            ),
        }
    }
}

impl Worker {
    /// Registers the families. `dead_queue` is the queue of a worker's dead letters.
    pub fn new(registry: &mut Registry, dead_queue: &'static str) -> Self {
        let dead = |reason: DeadReason| [("queue", dead_queue), ("reason", reason.code())];
        Self {
            attempts: registry.family(
                "attempts",
                "POSTs by outcome and class of the answer's status",
                counters(answers()),
            ),
            attempt_duration: registry.times("attempt_duration", "The time of a POST until its answer or failure", ATTEMPTS),
            delivery_latency: registry.times("delivery_latency", "The time from an event's receipt, or from its replay, to its delivery", LATENCIES),
            in_flight: registry.gauge("requests_in_flight", "POSTs that wait for their answer"),
            breakers_open: registry.gauge("breakers_open", "Webhooks whose circuit breaker is open in this worker"),
            not_sent: NotSent::new(registry),
            retry_delay: registry.times("retry_delay", "The wait until the next attempt, of each retry that was scheduled", RETRIES),
            dead_letters: registry.dead_letters(DEATHS.map(dead).into_iter().chain([unreadable(dead_queue)])),
            dead_queue,
            unpublished: registry.family(
                "follow_ups_unpublished",
                "Retries and deferrals that a queue did not take; routers publish them again, since \
                 the ledger knows of them",
                Counters::default(),
            ),
            unknown_jobs: registry.counter("jobs_unknown", "Jobs of a kind that this version does not know, each time that one was sent round \
                 for a newer worker"),
            webhooks_paused: registry.webhooks_paused([GONE, FAILING]),
            ledger: Ledger::new(registry),
            clock_offset: registry.clock_offset(),
        }
    }

    /// Counts a POST as under way until the note is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight { gauge: &self.in_flight }
    }

    /// Counts a POST that has ended.
    pub fn attempt(&self, outcome: Outcome, status: Option<u16>, took: Duration) {
        self.attempts.get_or_create(&answer(outcome.code(), class(status))).inc();
        self.attempt_duration.observe(took.as_secs_f64());
    }

    /// Notes how long after the beginning of its series a delivery has succeeded.
    pub fn delivered(&self, after: Duration) {
        self.delivery_latency.observe(after.as_secs_f64());
    }

    /// Notes a retry and its delay.
    pub fn retry(&self, delay: Duration) {
        self.retry_delay.observe(delay.as_secs_f64());
    }

    /// Counts a delivery that is put off without an attempt.
    pub fn deferred(&self, reason: Deferral) {
        self.not_sent.deferred.get_or_create(&[("reason", reason.code())]).inc();
    }

    /// Counts a delivery that was dropped.
    pub fn dropped(&self, reason: DropReason) {
        self.not_sent.dropped.get_or_create(&[("reason", reason.code())]).inc();
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, reason: DeadReason) {
        let labels = [("queue", self.dead_queue), ("reason", reason.code())];
        self.dead_letters.get_or_create(&labels).inc();
    }

    /// Counts a webhook that was paused.
    pub fn paused(&self, reason: &PauseReason) {
        let reason = if *reason == PauseReason::Gone { GONE } else { FAILING };
        self.webhooks_paused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a message on a queue of jobs that is not a job and becomes a dead letter.
    pub fn unreadable(&self) {
        self.dead_letters.get_or_create(&unreadable(self.dead_queue)).inc();
    }

    /// Counts retries and deferrals that a queue refused and that are left to the ledger.
    pub fn unpublished(&self, queue: &'static str, count: usize) {
        self.unpublished.get_or_create(&[("queue", queue)]).inc_by(number(count));
    }

    /// Counts a job of an unknown kind that goes back through the delay ladder.
    pub fn unknown_job(&self) {
        self.unknown_jobs.inc();
    }

    /// Counts an attempt if it leaves out events that the owner may no longer read.
    pub fn partial(&self, is: bool) {
        self.not_sent.partial.inc_by(u64::from(is));
    }

    /// Counts attempts that the ledger had already.
    pub fn duplicates(&self, count: usize) {
        self.ledger.duplicates.inc_by(number(count));
    }

    /// Notes by how many seconds the database's clock is ahead of this machine's.
    pub fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    /// Notes how many circuit breakers are open.
    pub fn breakers_open(&self, count: usize) {
        self.breakers_open.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes a statement that wrote rows into the ledger.
    pub fn ledger(&self, rows: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.ledger.batch_size.observe(rows as f64);
        self.ledger.write_duration.observe(took.as_secs_f64());
    }
}

/// The labels of a dead letter that is not a job.
fn unreadable(dead_queue: &'static str) -> Labels<2> {
    [("queue", dead_queue), ("reason", "unreadable")]
}

/// A POST under way.
#[derive(Debug)]
pub struct InFlight<'a> {
    gauge: &'a Gauge,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// The labels of the results of attempts. Other classes of a `status` outcome are rare; they appear
/// with their first attempt.
fn answers() -> impl Iterator<Item = Labels<2>> {
    let statuses = [
        (Outcome::Delivered, "2xx"),
        (Outcome::Gone, "4xx"),
        (Outcome::Status, "3xx"),
        (Outcome::Status, "4xx"),
        (Outcome::Status, "5xx"),
    ];
    let failures = FAILURES.map(|failure| (Outcome::Failed(failure), class(None)));
    statuses.into_iter().chain(failures).map(|(outcome, class)| answer(outcome.code(), class))
}

fn answer(outcome: &'static str, class: &'static str) -> Labels<2> {
    [("outcome", outcome), ("status", class)]
}

fn class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
    }
}
