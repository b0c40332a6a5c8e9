//! Publishes what the journal has, in order.
//!
//! A record is removed when the broker has confirmed its events. Whatever fails is tried again: the
//! journal keeps what was answered with 200.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_app::Publisher;
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{Destination, Message};
use fanfare_core::chain::chain;
use fanfare_core::event::CONTENT_TYPE;
use fanfare_core::filter::Filter;
use fanfare_metrics::{Bridge, JournalState};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::api::Api;
use crate::clock::Clock;
use crate::journal::{Journal, Record, Size};
use crate::notification::{Notification, Post, Receipt};
use crate::reading::{ReadError, resources};
use crate::routes::Routes;

/// The pauses between two tries, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The content type of a body that is no event.
const JSON: &str = "application/json";
/// The longest routing key of AMQP, in bytes.
const LONGEST_KEY: usize = 255;
/// The most deletions that are remembered.
const MAX_DELETED: usize = 10_000;

/// What is known of resources by what was published about them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    categories: Mutex<HashMap<String, String>>,
    deleted: Mutex<HashMap<(Filter, String), Instant>>,
}

impl Seen {
    /// Whether the deletion of a resource was published lately.
    pub(crate) fn is_deleted(&self, filter: Filter, id: &str) -> bool {
        let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.contains_key(&(filter, id.to_owned()))
    }

    /// Remembers the categories of reports.
    pub(crate) fn learn(&self, reports: impl IntoIterator<Item = (String, Option<String>)>) {
        let mut categories = self.categories.lock().unwrap_or_else(PoisonError::into_inner);
        categories.extend(reports.into_iter().filter_map(|(id, category)| Some((id, category?))));
    }

    fn category(&self, report: &str) -> Option<String> {
        let categories = self.categories.lock().unwrap_or_else(PoisonError::into_inner);
        categories.get(report).cloned()
    }

    fn note(&self, notification: &Notification) {
        if let Some((report, category)) = notification.report_and_category() {
            self.learn([(report.to_owned(), Some(category.to_owned()))]);
        }
        if let Some((filter, id)) = notification.deleted() {
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            if deleted.len() >= MAX_DELETED {
                let oldest = deleted.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
                oldest.and_then(|oldest| deleted.remove(&oldest));
            }
            deleted.insert((filter, id.to_owned()), Instant::now());
        }
    }
}

/// What the outbox needs.
pub(crate) struct Outbox {
    pub(crate) api: Arc<Api>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) journal: Journal,
    pub(crate) source: String,
    pub(crate) revision: watch::Receiver<Option<i64>>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Bridge>,
    /// The time before which the list of reports was read last.
    pub(crate) listed_at: Option<DateTime<Utc>>,
}

impl Outbox {
    /// Publishes for ever.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.publish_next().await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    let error = chain(error.as_ref());
                    tracing::warn!(error, "the journal waits; trying again in {pause:?}");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn publish_next(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.metrics.journal(journal_state(&self.journal).await);
        let batch = self.journal.next().await?;
        self.metrics.journal(journal_state(&self.journal).await);
        // Without any directory, Fanfare would hold the events.
        let newest = *self.revision.wait_for(Option::is_some).await?;
        let mut messages = Vec::new();
        let mut notifications = Vec::new();
        for record in &batch.records {
            self.add_events(record, newest, &mut messages, &mut notifications).await?;
        }
        let count = messages.len();
        publish(&self.publisher, messages).await?;
        self.metrics.published(count);
        for notification in &notifications {
            self.seen.note(notification);
        }
        self.journal.remove(batch).await?;
        Ok(())
    }

    async fn add_events(
        &mut self,
        record: &Record,
        newest: Option<i64>,
        messages: &mut Vec<(Destination, Message)>,
        notifications: &mut Vec<Notification>,
    ) -> Result<(), ReadError> {
        let post = match Post::parse(record.body.as_bytes()) {
            Ok(post) => post,
            Err(error) => {
                // The router makes a dead letter of it, with the whole body.
                tracing::error!(
                    error = chain(&error),
                    "a POST can't be read; it becomes a dead letter"
                );
                messages.push(to_events("unknown", Message::new(record.body.clone(), JSON)));
                return Ok(());
            }
        };
        let revision = record.revision.or(newest);
        let source = self.source.clone();
        let receipt = Receipt { source: &source, post: &post.id, at: record.at, revision };
        for (index, notification) in post.notifications.into_iter().enumerate() {
            let category = match notification.report_without_category() {
                Some(report) => self.category(report, record.at).await?,
                None => None,
            };
            let event = notification.event(receipt, index, category.as_deref());
            messages.push(message(&notification.event_type(), event));
            notifications.push(notification);
        }
        Ok(())
    }

    /// The category of a report whose notification, which came at `came`, does not have it. `None`: the
    /// report server does not have the report any more, or does not show reports.
    ///
    /// Fails if the report server can't be asked now: the journal waits, so that all who may
    /// read the category get the event.
    async fn category(
        &mut self,
        report: &str,
        came: DateTime<Utc>,
    ) -> Result<Option<String>, ReadError> {
        let known = self.seen.category(report);
        // A list that was read later has the report if it exists.
        if known.is_some() || self.listed_at.is_some_and(|at| at > came) {
            return Ok(known);
        }
        let now = self.clock.now();
        match resources(&self.api, &self.routes.reports).await {
            Ok(reports) => self.seen.learn(reports),
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => tracing::warn!(
                error = chain(&error),
                report,
                "the category of a report is not known: only who may read any report, or this one, \
                 gets its event"
            ),
        }
        self.listed_at = Some(now);
        Ok(self.seen.category(report))
    }
}

/// What the journal has, for the metrics.
pub(crate) async fn journal_state(journal: &Journal) -> JournalState {
    let Size { bytes, records: posts, oldest } = journal.size().await;
    JournalState { posts, bytes, oldest }
}

/// The message of an event or document of this type.
pub(crate) fn message(event_type: &str, event: String) -> (Destination, Message) {
    // The router takes the type from the event, and refuses one that is too long.
    let routing_key = if event_type.len() <= LONGEST_KEY { event_type } else { "unknown" };
    to_events(routing_key, Message::new(event, CONTENT_TYPE))
}

fn to_events(routing_key: &str, message: Message) -> (Destination, Message) {
    let exchange = EVENTS_EXCHANGE.to_owned();
    (Destination::Exchange { exchange, routing_key: routing_key.to_owned() }, message)
}

/// Publishes messages, and returns when the broker has confirmed all of them.
pub(crate) async fn publish(
    publisher: &Publisher,
    messages: Vec<(Destination, Message)>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if messages.is_empty() {
        return Ok(());
    }
    let session = publisher.session().await.ok_or("the broker can't be reached")?;
    Ok(session.publisher().publish_all(messages).await?)
}
