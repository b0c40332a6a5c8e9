//! The report server: publishes events, batches and changes of access at a steady pace, each until
//! the broker has confirmed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use fanfare_core::ids::{BatchKey, EventKey};
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::installation::REPORT_SERVER;
use fanfare_testkit::roles::as_role;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::world::{ALL_GRANTS, Directory, Kind, OWNERS, Resource, SOURCE};

/// The connections that publish side by side.
const CONNECTIONS: usize = 4;

/// Messages that wait for a connection. When they are this many, the load waits: a report server
/// whose broker is away publishes nothing.
const BACKLOG: usize = 16;

/// The time after which a publish, or a connection, is given up and tried again.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(300);

const EXCHANGE: &str = "reportserver.events";

/// An event, as the comparison needs it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) resource: Resource,
    /// The revision that it must be judged by.
    pub(crate) revision: Option<i64>,
    /// The key of the batch that it is part of; its own key when it was published alone.
    pub(crate) batch: BatchKey,
}

/// The `id` of an event.
pub(crate) fn event_id(number: usize) -> String {
    format!("event-{number}")
}

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// By number.
    pub(crate) events: Vec<Event>,
    pub(crate) directory: Directory,
    pub(crate) batches: usize,
}

struct Message {
    routing_key: String,
    content_type: &'static str,
    body: String,
    /// The number of its events.
    events: usize,
}

/// What the progress shows, and what ends the load.
#[derive(Default)]
pub(crate) struct Control {
    confirmed: AtomicUsize,
    is_over: AtomicBool,
}

impl Control {
    /// The number of events that the broker confirmed.
    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Makes the load end.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Publishes until the control ends it, and returns when all is confirmed.
pub(crate) async fn run(
    amqp_url: &str,
    seed: u64,
    rate: f64,
    control: Arc<Control>,
) -> Result<Published> {
    let url = as_role(amqp_url, REPORT_SERVER);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(publish_all(url.clone(), Arc::clone(&receiver), Arc::clone(&control)));
    }
    let mut load = Load::new(seed);
    let snapshot = Message::document(&Directory::snapshot());
    sender.send(snapshot).await?;
    let mut tick = interval(Duration::from_secs_f64(1.0 / rate));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !control.is_over.load(Ordering::Relaxed) {
        tick.tick().await;
        for message in load.next_messages() {
            sender.send(message).await?;
        }
    }
    drop(sender);
    while let Some(ended) = connections.join_next().await {
        ended?;
    }
    Ok(load.published)
}

/// Publishes one message after the other.
async fn publish_all(
    url: String,
    messages: Arc<tokio::sync::Mutex<mpsc::Receiver<Message>>>,
    control: Arc<Control>,
) {
    let mut connection = None;
    while let Some(message) = next(&messages).await {
        while !is_confirmed(&url, &mut connection, &message).await {
            connection = None;
            sleep(PAUSE).await;
        }
        control.confirmed.fetch_add(message.events, Ordering::Relaxed);
    }
}

async fn next(messages: &tokio::sync::Mutex<mpsc::Receiver<Message>>) -> Option<Message> {
    messages.lock().await.recv().await
}

/// Publishes a message; a message that may have been stored is published again, and is known then.
async fn is_confirmed(url: &str, connection: &mut Option<Amqp>, message: &Message) -> bool {
    if connection.is_none() {
        *connection = timeout(PATIENCE, Amqp::connect(url)).await.ok().and_then(Result::ok);
    }
    let Some(amqp) = connection else { return false };
    let Message { routing_key, content_type, body, .. } = message;
    let publishing = amqp.publish(EXCHANGE, routing_key, content_type, &[], body.as_bytes());
    timeout(PATIENCE, publishing).await.is_ok_and(|it| it.is_ok())
}

impl Message {
    fn document(document: &Value) -> Self {
        Self { events: 0, ..Self::event(document) }
    }

    fn event(event: &Value) -> Self {
        Self {
            routing_key: event["type"].as_str().unwrap_or_default().to_owned(),
            content_type: "application/cloudevents+json",
            body: event.to_string(),
            events: 1,
        }
    }

    fn batch(events: &[Value]) -> Self {
        Self {
            routing_key: events.first().map_or_else(String::new, |it| Self::event(it).routing_key),
            content_type: "application/cloudevents-batch+json",
            body: json!(events).to_string(),
            events: events.len(),
        }
    }
}

/// The load, message by message, from the seed.
struct Load {
    rng: Rng,
    published: Published,
}

impl Load {
    fn new(seed: u64) -> Self {
        let published = Published { directory: Directory::new(), ..Published::default() };
        Self { rng: Rng::with_seed(seed ^ 0x10AD), published }
    }

    /// An event, or a batch, and sometimes a change of access before it.
    fn next_messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.rng.u32(..30) == 0 {
            messages.push(self.change());
        }
        messages.push(if self.rng.u32(..25) == 0 { self.batch() } else { self.single() });
        messages
    }

    /// Gives or takes one owner's access to some of its resources. Most changes give all back, so
    /// that most events have readers.
    fn change(&mut self) -> Message {
        let owner = self.rng.usize(..OWNERS);
        let grants = if self.rng.bool() { ALL_GRANTS } else { self.rng.u8(..=ALL_GRANTS) };
        Message::document(&self.published.directory.change(owner, grants))
    }

    fn single(&mut self) -> Message {
        let (event, key) = self.event();
        self.note(&event, BatchKey::single(key));
        Message::event(&event.json)
    }

    fn batch(&mut self) -> Message {
        let first = self.published.events.len();
        let count = self.rng.usize(2..=6);
        let mut events = Vec::new();
        for number in first..first + count {
            let event = self.draw(number);
            events.push(event);
        }
        let keys: Vec<EventKey> = (first..first + count).map(key).collect();
        let batch = BatchKey::batch(&keys);
        for event in &events {
            self.note(event, batch);
        }
        self.published.batches += 1;
        let events: Vec<Value> = events.into_iter().map(|it| it.json).collect();
        Message::batch(&events)
    }

    fn event(&mut self) -> (Drawn, EventKey) {
        let number = self.published.events.len();
        (self.draw(number), key(number))
    }

    fn note(&mut self, event: &Drawn, batch: BatchKey) {
        let Drawn { resource, revision, .. } = *event;
        self.published.events.push(Event { resource, revision, batch });
    }

    fn draw(&mut self, number: usize) -> Drawn {
        let kind = Kind::ALL[self.rng.usize(..Kind::ALL.len())];
        let of = (self.rng.u32(..40) > 0).then(|| self.rng.usize(..OWNERS));
        let resource = Resource { kind, of };
        let revision = (self.rng.u32(..4) > 0).then(|| self.published.directory.revision());
        let padding = if self.rng.u32(..100) == 0 { LARGE } else { self.rng.usize(..300) };
        let mut json = json!({
            "specversion": "1.0", "id": event_id(number), "source": SOURCE,
            "type": format!("{}.edit", kind.filter()), "subject": resource.subject(),
            "data": { "Number": number, "Padding": "x".repeat(padding) },
        });
        if let Some(revision) = revision {
            json["accessrevision"] = json!(revision);
        }
        Drawn { json, resource, revision }
    }
}

/// More than a job carries: it goes to workers by reference.
const LARGE: usize = 70_000;

struct Drawn {
    json: Value,
    resource: Resource,
    revision: Option<i64>,
}

fn key(number: usize) -> EventKey {
    EventKey::of(SOURCE, &event_id(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_repeats_with_the_seed() {
        let bodies = |seed| -> Vec<String> {
            let mut load = Load::new(seed);
            (0..200).flat_map(|_| load.next_messages()).map(|it| it.body).collect()
        };
        assert_eq!(bodies(5), bodies(5));
        assert_ne!(bodies(5), bodies(6));
    }

    #[test]
    fn every_event_of_a_batch_has_its_key() {
        let mut load = Load::new(1);
        let message = load.batch();
        let events = &load.published.events;
        assert_eq!(events.len(), message.events);
        assert!(events.iter().all(|event| event.batch == events[0].batch));
    }
}
