//! The metrics of a worker: attempts, their follow-ups, and deferrals.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_core::answer::Failure;
use fanfare_core::endpoint::Cause;
use fanfare_core::outcome::{DeadReason, DropReason, Outcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::buckets::{ATTEMPTS, LATENCIES, RETRIES, SIZES, STATEMENTS};
use crate::labels::{Counters, Labels, counters, number};
use crate::registry::Registry;

/// Why a delivery was deferred without an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferral {
    /// Its attempt is in doubt: another worker may have made it or may be making it.
    Uncertain,
    /// Another worker has the claim.
    Claimed,
    /// It is not due yet, because its delay exceeds the longest delay of the ladder.
    Early,
    /// The limits of its endpoint allow no attempt now.
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

const DROPS: [DropReason; 5] = [
    DropReason::WebhookDeleted,
    DropReason::WebhookPaused,
    DropReason::OwnerDisabled,
    DropReason::OwnerDeleted,
    DropReason::AccessRevoked,
];

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
    deferred: Counters<1>,
    dropped: Counters<1>,
    partial: Counter,
    retry_delay: Histogram,
    dead_letters: Counters<2>,
    dead_queue: &'static str,
    unpublished: Counters<1>,
    unknown_jobs: Counter,
    ledger_batch_size: Histogram,
    ledger_write_duration: Histogram,
    duplicates: Counter,
    clock_offset: Gauge<f64, AtomicU64>,
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
            attempt_duration: registry.seconds(
                "attempt_duration",
                "The time of a POST until its answer or failure",
                Histogram::new(ATTEMPTS),
            ),
            delivery_latency: registry.seconds(
                "delivery_latency",
                "The time from an event's receipt, or from its replay, to its delivery",
                Histogram::new(LATENCIES),
            ),
            in_flight: registry.family(
                "requests_in_flight",
                "POSTs that wait for their answer",
                Gauge::default(),
            ),
            breakers_open: registry.family(
                "breakers_open",
                "Webhooks whose circuit breaker is open in this worker",
                Gauge::default(),
            ),
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
            partial: registry.family(
                "attempts_partial",
                "Attempts that left out events because the owner may not read their resources any more",
                Counter::default(),
            ),
            retry_delay: registry.seconds(
                "retry_delay",
                "The delay of each retry that was scheduled",
                Histogram::new(RETRIES),
            ),
            dead_letters: registry.dead_letters(DEATHS.map(dead).into_iter().chain([unreadable(dead_queue)])),
            dead_queue,
            unpublished: registry.family(
                "follow_ups_unpublished",
                "Retries and deferrals that a queue did not accept; routers publish them again, since \
                 they are in the ledger",
                Counters::default(),
            ),
            unknown_jobs: registry.family(
                "jobs_unknown",
                "Jobs of a kind that this version does not know; a job counts each time that it is \
                 published again for a newer worker",
                Counter::default(),
            ),
            ledger_batch_size: registry.family(
                "ledger_batch_size",
                "Rows that were written into the ledger in one statement",
                Histogram::new(SIZES),
            ),
            ledger_write_duration: registry.seconds(
                "ledger_write_duration",
                "The time of a statement that writes into the ledger",
                Histogram::new(STATEMENTS),
            ),
            duplicates: registry.family(
                "attempts_duplicate",
                "Attempts that were in the ledger already, so that the receivers got duplicates",
                Counter::default(),
            ),
            clock_offset: registry.clock_offset(),
        }
    }

    /// Counts a POST as in flight until the result is dropped.
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

    /// Records the time from the beginning of a delivery to its success.
    pub fn delivered(&self, after: Duration) {
        self.delivery_latency.observe(after.as_secs_f64());
    }

    /// Records the delay of a retry.
    pub fn retry(&self, delay: Duration) {
        self.retry_delay.observe(delay.as_secs_f64());
    }

    /// Counts a delivery that is deferred without an attempt.
    pub fn deferred(&self, reason: Deferral) {
        self.deferred.get_or_create(&[("reason", reason.code())]).inc();
    }

    /// Counts a delivery that is dropped.
    pub fn dropped(&self, reason: DropReason) {
        self.dropped.get_or_create(&[("reason", reason.code())]).inc();
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, reason: DeadReason) {
        let labels = [("queue", self.dead_queue), ("reason", reason.code())];
        self.dead_letters.get_or_create(&labels).inc();
    }

    /// Counts a message in a queue of jobs that is not a job and becomes a dead letter.
    pub fn unreadable(&self) {
        self.dead_letters.get_or_create(&unreadable(self.dead_queue)).inc();
    }

    /// Counts retries and deferrals that a queue did not accept, and that routers will publish
    /// again.
    pub fn unpublished(&self, queue: &'static str, count: usize) {
        self.unpublished.get_or_create(&[("queue", queue)]).inc_by(number(count));
    }

    /// Counts a job of an unknown kind that is published again for a newer worker.
    pub fn unknown_job(&self) {
        self.unknown_jobs.inc();
    }

    /// Counts an attempt if it leaves out events whose resources the owner may not read any more.
    pub fn partial(&self, is: bool) {
        self.partial.inc_by(u64::from(is));
    }

    /// Counts attempts that were in the ledger already.
    pub fn duplicates(&self, count: usize) {
        self.duplicates.inc_by(number(count));
    }

    /// Sets the seconds by which the database's clock is ahead of this machine's.
    pub fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    /// Sets the number of open circuit breakers.
    pub fn breakers_open(&self, count: usize) {
        self.breakers_open.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records a statement that wrote rows to the ledger.
    pub fn ledger(&self, rows: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.ledger_batch_size.observe(rows as f64);
        self.ledger_write_duration.observe(took.as_secs_f64());
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

/// The labels of all possible attempts, except other classes of the outcome `status`. These are
/// rare, and their counters exist after the first such attempt.
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
