//! Publishes what the journal has, in order.
//!
//! A record is removed when the broker has confirmed its events. Whatever fails is tried again: the
//! journal keeps what the report server has been told is safe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_app::Publisher;
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{Destination, Message};
use fanfare_core::chain::chain;
use fanfare_core::event::CONTENT_TYPE;
use fanfare_core::filter::Filter;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::api::Api;
use crate::journal::{Journal, Record};
use crate::notification::{Notification, Post, Receipt};
use crate::reading::resources;
use crate::routes::Routes;

/// The pauses between two tries, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest time for asking the report server for the category of a report. Events behind wait.
const CATEGORY_TIME: Duration = Duration::from_mins(1);
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
        let batch = self.journal.next().await?;
        // Without any directory, Fanfare would hold the events.
        let newest = *self.revision.wait_for(Option::is_some).await?;
        let mut messages = Vec::new();
        let mut notifications = Vec::new();
        for record in &batch.records {
            self.add_events(record, newest, &mut messages, &mut notifications).await;
        }
        publish(&self.publisher, messages).await?;
        for notification in &notifications {
            self.seen.note(notification);
        }
        self.journal.remove(batch).await?;
        Ok(())
    }

    async fn add_events(
        &self,
        record: &Record,
        newest: Option<i64>,
        messages: &mut Vec<(Destination, Message)>,
        notifications: &mut Vec<Notification>,
    ) {
        let post = match Post::parse(record.body.as_bytes()) {
            Ok(post) => post,
            Err(error) => {
                tracing::error!(error = chain(&error), "a record of the journal is no POST");
                return;
            }
        };
        let revision = record.revision.or(newest);
        let receipt = Receipt { source: &self.source, post: &post.id, at: record.at, revision };
        for (index, notification) in post.notifications.into_iter().enumerate() {
            let category = match notification.report_without_category() {
                Some(report) => self.category(report).await,
                None => None,
            };
            let event = notification.event(receipt, index, category.as_deref());
            messages.push(message(&notification.event_type(), event));
            notifications.push(notification);
        }
    }

    /// The category of a report whose notification does not tell it.
    async fn category(&self, report: &str) -> Option<String> {
        if let Some(known) = self.seen.category(report) {
            return Some(known);
        }
        let until = Instant::now() + CATEGORY_TIME;
        loop {
            match resources(&self.api, &self.routes.reports).await {
                Ok(reports) => {
                    self.seen.learn(reports);
                    return self.seen.category(report);
                }
                Err(error) if Instant::now() < until => {
                    let error = chain(&error);
                    tracing::warn!(error, report, "can't ask for the category of a report yet");
                    sleep(FIRST_PAUSE * 10).await;
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(
                        error,
                        report,
                        "the category of a report is not known: only who may read any report, or \
                         this one, gets its event"
                    );
                    return None;
                }
            }
        }
    }
}

/// The message of an event or document of this type.
pub(crate) fn message(event_type: &str, event: String) -> (Destination, Message) {
    // The router takes the type from the event, and refuses one that is too long.
    let routing_key = if event_type.len() <= LONGEST_KEY { event_type } else { "unknown" };
    let exchange = EVENTS_EXCHANGE.to_owned();
    let destination = Destination::Exchange { exchange, routing_key: routing_key.to_owned() };
    (destination, Message::new(event, CONTENT_TYPE))
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
