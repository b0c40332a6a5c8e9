//! The metrics of a bridge to a report server: its journal, its readings of the directory, and its
//! webhook.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::labels::{Counters, counters, number};
use crate::registry::Registry;

/// How a POST of the report server was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostResult {
    /// It is in the journal, and was answered with 200.
    Accepted,
    /// It had no valid signature.
    Unsigned,
    /// The journal is full.
    Full,
    /// The journal can't be written, or not in time.
    Failed,
}

impl PostResult {
    const ALL: [Self; 4] = [Self::Accepted, Self::Unsigned, Self::Full, Self::Failed];

    fn label(self) -> [(&'static str, &'static str); 1] {
        let result = match self {
            Self::Accepted => "accepted",
            Self::Unsigned => "unsigned",
            Self::Full => "journal-full",
            Self::Failed => "journal-failed",
        };
        [("result", result)]
    }
}

/// Why users, roles and permissions were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailure {
    /// The report server does not answer, or fails.
    Unavailable,
    /// It refuses the account, or what the account asks for.
    Refused,
    /// Its answer can't be read.
    Unreadable,
    /// Users or roles changed while they were read.
    Changing,
    /// What it answers is not consistent, or not whole.
    Inconsistent,
    /// The bridge's own disk failed.
    Disk,
}

impl ReadFailure {
    const ALL: [Self; 6] = [
        Self::Unavailable,
        Self::Refused,
        Self::Unreadable,
        Self::Changing,
        Self::Inconsistent,
        Self::Disk,
    ];

    fn label(self) -> [(&'static str, &'static str); 1] {
        let cause = match self {
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Changing => "changing",
            Self::Inconsistent => "inconsistent",
            Self::Disk => "disk",
        };
        [("cause", cause)]
    }
}

/// What is in the journal of a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalState {
    pub posts: u64,
    pub bytes: u64,
    /// The time at which the oldest POST came.
    pub oldest: Option<DateTime<Utc>>,
}

/// The families of a bridge.
#[derive(Debug)]
pub struct Bridge {
    posts: Counters<1>,
    last_post: Gauge<f64, AtomicU64>,
    journal_posts: Gauge,
    journal_bytes: Gauge,
    journal_limit: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    published: Counter,
    readings: Counter,
    readings_failed: Counters<1>,
    last_reading: Gauge<f64, AtomicU64>,
    poll: Gauge<f64, AtomicU64>,
    revision: Gauge,
    documents: Counter,
    held: Gauge,
    left_out: Gauge,
    registered: Gauge,
    silent: Gauge,
}

impl Bridge {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let at = Gauge::default;
        Self {
            posts: registry.family(
                "bridge_posts",
                "POSTs of the report server, by how they were answered: accepted is 200",
                counters(PostResult::ALL.map(PostResult::label)),
            ),
            last_post: registry.seconds("bridge_last_post_timestamp", "When the last POST was accepted, in seconds since 1970; 0 when there was none", at()),
            journal_posts: registry.gauge("bridge_journal_posts", "POSTs in the journal that the broker has not confirmed"),
            journal_bytes: registry.gauge("bridge_journal_bytes", "The size of the journal's files; up to 4 MiB are of POSTs that were published"),
            journal_limit: registry.gauge("bridge_journal_limit_bytes", "The size at which the journal takes no more POSTs"),
            oldest: registry.seconds("bridge_oldest_post_timestamp", "When the oldest POST in the journal came, in seconds since 1970; 0 when there is none", at()),
            published: registry.counter("bridge_events_published", "Events that were published and confirmed by the broker"),
            readings: registry.counter("bridge_readings", "Readings of users, roles and permissions that were whole"),
            readings_failed: registry.family(
                "bridge_readings_failed",
                "Readings of users, roles and permissions that failed, by cause; nothing of them was published",
                counters(ReadFailure::ALL.map(ReadFailure::label)),
            ),
            last_reading: registry.seconds("bridge_last_reading_timestamp", "When the last whole reading began, in seconds since 1970; 0 when there was none", at()),
            poll: registry.seconds("bridge_poll", "The time between two readings, as it is set", at()),
            revision: registry.gauge("bridge_directory_revision", "The newest directory revision that this bridge has published; 0 when there is none"),
            documents: registry.counter("bridge_documents_published", "Documents of the directory that were published and confirmed by the broker"),
            held: registry.gauge("bridge_removals_held", "Removals of permissions that are held back for a deletion whose notification may still come"),
            left_out: registry.gauge("bridge_permissions_left_out", "Permissions that the last reading could not map, so that they grant nothing"),
            registered: registry.gauge("bridge_webhook_registered", "Whether the bridge's webhook is registered at the report server and not paused"),
            silent: registry.gauge("bridge_silent", "1 when reports were added or removed at the report server and no POST came"),
        }
    }

    /// Counts a POST.
    pub fn post(&self, result: PostResult, at: DateTime<Utc>) {
        self.posts.get_or_create(&result.label()).inc();
        if result == PostResult::Accepted {
            self.last_post.set(seconds(at));
        }
    }

    /// Notes what is in the journal.
    pub fn journal(&self, state: JournalState) {
        self.journal_posts.set(gauge(state.posts));
        self.journal_bytes.set(gauge(state.bytes));
        self.oldest.set(state.oldest.map_or(0.0, seconds));
    }

    /// Notes the journal's limit in bytes, and the time between two readings.
    pub fn settings(&self, journal_limit: u64, poll: Duration) {
        self.journal_limit.set(gauge(journal_limit));
        self.poll.set(poll.as_secs_f64());
    }

    /// Counts events that the broker has confirmed.
    pub fn published(&self, events: usize) {
        self.published.inc_by(number(events));
    }

    /// Counts a reading that was whole and began at this time, with the removals that are held back
    /// and the permissions that were left out.
    pub fn read(&self, at: DateTime<Utc>, held: usize, left_out: usize) {
        self.readings.inc();
        self.last_reading.set(seconds(at));
        self.held.set(gauge(number(held)));
        self.left_out.set(gauge(number(left_out)));
    }

    /// Counts a reading that failed.
    pub fn not_read(&self, failure: ReadFailure) {
        self.readings_failed.get_or_create(&failure.label()).inc();
    }

    /// Counts documents of the directory that the broker has confirmed.
    pub fn documents(&self, count: usize) {
        self.documents.inc_by(number(count));
    }

    /// Notes the newest revision that was published.
    pub fn revision(&self, revision: Option<i64>) {
        self.revision.set(revision.unwrap_or_default());
    }

    /// Notes whether the webhook is registered.
    pub fn registered(&self, is_registered: bool) {
        self.registered.set(i64::from(is_registered));
    }

    /// Notes whether the report server posts nothing although its reports change.
    pub fn silent(&self, is_silent: bool) {
        self.silent.set(i64::from(is_silent));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 53 bits")]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}
