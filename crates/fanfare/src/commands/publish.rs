//! `fanfare publish`: publishes events from a file, as the report server does.
//!
//! It checks only that the events are JSON, so that it can also show how invalid events are refused.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{Destination, Message, Publisher};
use fanfare_core::event::{BATCH_CONTENT_TYPE, CONTENT_TYPE, EventMessage};

use crate::input::{self, Entry};
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The number of messages to publish before waiting for their confirms.
const CHUNK: usize = 500;

/// How often progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The arguments of `fanfare publish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file with one event, an array of events, or one event per line; - for stdin
    file: String,
    /// Publish all events in one message, so that each webhook gets them in one POST
    #[arg(long)]
    batch: bool,
}

/// Publishes and waits for the broker's confirms.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let config = wiring::broker(settings, "publish")?;
    let text = input::read(&args.file)?;
    let file = input::shown(&args.file);
    let entries =
        input::entries(&text).with_context(|| format!("nothing of {file} was published"))?;
    if entries.is_empty() {
        bail!("{file} holds no event; nothing was published");
    }
    let session = fanfare_broker::Session::open(&config).await?;
    let published = if args.batch {
        publish_all(&session.publisher(), &[batch(&entries)]).await
    } else {
        let one = |entry: &Entry<'_>| (routing_key(entry.raw.get()), message(entry, CONTENT_TYPE));
        let messages: Vec<_> = entries.iter().map(one).collect();
        publish_all(&session.publisher(), &messages).await
    };
    session.close().await;
    published?;
    let how = if args.batch { " in one message" } else { "" };
    let events = if entries.len() == 1 { "event" } else { "events" };
    output::print(&format!("published {} {events}{how}\n", entries.len()))
}

async fn publish_all(publisher: &Publisher, messages: &[(String, Message)]) -> anyhow::Result<()> {
    let mut done = 0;
    let mut reported_at = Instant::now();
    for chunk in messages.chunks(CHUNK) {
        let chunk_length = chunk.len();
        let chunk = chunk.iter().map(|(key, message)| (destination(key), message.clone()));
        publisher.publish_all(chunk.collect()).await.with_context(|| {
            format!("the broker confirmed {done} of {} messages, then one failed", messages.len())
        })?;
        done += chunk_length;
        if reported_at.elapsed() >= PROGRESS_EVERY {
            output::note(&format!("published {done} of {}", messages.len()));
            reported_at = Instant::now();
        }
    }
    Ok(())
}

fn destination(routing_key: &str) -> Destination {
    Destination::Exchange {
        exchange: EVENTS_EXCHANGE.to_owned(),
        routing_key: routing_key.to_owned(),
    }
}

fn message(entry: &Entry<'_>, content_type: &str) -> Message {
    Message::new(entry.raw.get().to_owned(), content_type)
}

/// All events in one message, with the routing key of the first.
fn batch(entries: &[Entry<'_>]) -> (String, Message) {
    let texts: Vec<&str> = entries.iter().map(|entry| entry.raw.get()).collect();
    let key = texts.first().map(|text| routing_key(text)).unwrap_or_default();
    (key, Message::new(format!("[{}]", texts.join(",")), BATCH_CONTENT_TYPE))
}

/// The event's type; empty if it has none. The exchange routes every key to the queue of events.
fn routing_key(event: &str) -> String {
    EventMessage { body: event.as_bytes(), ..EventMessage::default() }.routing_key()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_contains_the_events_unchanged() {
        let entries = input::entries("{\"type\":\"a.b\", \"n\":1.50}\n{\"type\":\"c.d\"}").unwrap();
        let (key, message) = batch(&entries);
        assert_eq!(key, "a.b");
        assert_eq!(&message.body[..], br#"[{"type":"a.b", "n":1.50},{"type":"c.d"}]"#);
        assert_eq!(message.content_type.as_deref(), Some(BATCH_CONTENT_TYPE));
    }
}
