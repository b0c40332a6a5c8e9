//! Events in: messages from the queue to the ledger to jobs, then the acknowledgement.
//!
//! The order is what makes it safe. A router that dies before the ledger has the events has done
//! nothing; one that dies after it gets the messages again, finds the events known, and publishes
//! copies of the jobs that may be lost.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::reject;
use fanfare_broker::{
    BackTo, Delay, Destination, Incoming, Message, Queue, Session, Settle, ack_all,
};
use fanfare_core::directory::Document;
use fanfare_core::event::{self, CONTENT_TYPE, Entry, Event};
use fanfare_core::ids::{BatchKey, EventKey};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::patience::{Impatient, patiently};
use fanfare_store::routing::{Arrival, Routed};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::jobs;

/// How long the first event of a batch waits for others: long enough to batch under load, short
/// enough not to show in the latency of a single event.
const LINGER: Duration = Duration::from_millis(1);

/// How long a held event waits in memory before it goes round by the ladder: documents that were
/// published just before it are mostly a few milliseconds away, in another router.
const SHORTLY: Duration = Duration::from_millis(300);
/// How often those that wait in memory are looked at when nothing else comes.
const AGAIN: Duration = Duration::from_millis(20);
/// The most messages that wait in memory, so that there is room for others.
const MOST_WAITING: usize = 64;

/// When an event was first held for its directory revision (Unix milliseconds).
const HELD_SINCE: &str = "x-fanfare-held-since";
/// The routing key that a held event was published with.
const ROUTING_KEY: &str = "x-fanfare-routing-key";

type Outgoing = Vec<(Destination, Message)>;

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut consumer = session.consumer(Queue::Events, config.prefetch).await?;
    let most = usize::from(config.prefetch);
    let parse = |incoming| TakenMessage::parse(config, incoming);
    let mut waiting = Vec::new();
    loop {
        let longest = if waiting.is_empty() { Duration::MAX } else { AGAIN };
        let next = tokio::time::timeout(longest, consumer.next_batch(most, LINGER));
        let mut messages: Vec<TakenMessage> = match stop.run_until_cancelled(next).await {
            None | Some(Ok(None)) => break,
            Some(Ok(Some(batch))) => batch?.into_iter().map(parse).collect(),
            Some(Err(_)) => Vec::new(),
        };
        messages.append(&mut waiting);
        waiting = settle(config, session, stop, messages).await?;
    }
    Ok(consumer.cancel().await?)
}

/// Routes messages and acknowledges them; returns those that wait here for the directory.
async fn settle(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    messages: Vec<TakenMessage>,
) -> Result<Vec<TakenMessage>, RouterError> {
    take_documents(config, stop, &messages).await?;
    let (arrivals, owners) = arrivals(&messages);
    let routed = match patiently(stop, || config.store.route(&arrivals, config.gap_wait)).await {
        Err(Impatient::Refused(error)) if messages.len() == 1 => {
            tracing::warn!(error = error.chain(), "the database refused an event");
            return refuse(config, session, messages, &error.chain()).await;
        }
        Err(Impatient::Refused(_)) => {
            // One of them is to blame; the others must not suffer for it.
            let mut waiting = Vec::new();
            for message in messages {
                waiting.extend(Box::pin(settle(config, session, stop, vec![message])).await?);
            }
            return Ok(waiting);
        }
        routed => routed?,
    };
    let mut results: Vec<Vec<(&Event, Routed)>> = messages.iter().map(|_| Vec::new()).collect();
    for ((arrival, owner), routed) in arrivals.iter().zip(owners).zip(routed) {
        results[owner].push((arrival.event, routed));
    }
    let mut outgoing = Outgoing::new();
    let mut units = Vec::new();
    let mut suspects = Vec::new();
    let mut held = HashSet::new();
    for (index, (message, results)) in messages.iter().zip(results).enumerate() {
        if results.iter().any(|(_, routed)| *routed == Routed::Forgotten) {
            outgoing.push(message.forgotten(config));
            continue;
        }
        if results.iter().any(|(_, routed)| *routed == Routed::Held) {
            if message.may_wait_here() && held.len() < MOST_WAITING {
                held.insert(index);
            } else {
                outgoing.push(message.hold(config));
            }
            continue;
        }
        outgoing.extend(message.rejected((config.clock)()));
        suspects.extend(message.suspects(&results));
        units.extend(jobs::unit(message.batch_key(), results));
    }
    let copies = patiently(stop, || config.store.route_unsettled(&suspects)).await?;
    outgoing.extend(jobs::fresh(units)?);
    outgoing.extend(jobs::copies(&copies)?);
    session.publisher().publish_all(outgoing).await?;
    let (waiting, done): (Vec<_>, Vec<_>) =
        messages.into_iter().enumerate().partition(|(index, _)| held.contains(index));
    ack_all(done.into_iter().map(|(_, message)| message.settle)).await?;
    Ok(waiting.into_iter().map(|(_, message)| message).collect())
}

/// Takes the directory documents that came with the events, so that an event published after a
/// document is judged by it also when the directory's own queue lags behind.
async fn take_documents(
    config: &Config,
    stop: &CancellationToken,
    messages: &[TakenMessage],
) -> Result<(), RouterError> {
    let documents: Vec<Document> =
        messages.iter().flat_map(|message| message.documents.iter().cloned()).collect();
    if documents.is_empty() {
        return Ok(());
    }
    match patiently(stop, async || config.store.directory_apply(&documents).await).await {
        // The directory's own queue sorts out which one is to blame.
        Ok(_) | Err(Impatient::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Every event of the messages, each key once, and the message that each belongs to.
fn arrivals(messages: &[TakenMessage]) -> (Vec<Arrival<'_>>, Vec<usize>) {
    let mut seen: HashSet<EventKey> = HashSet::new();
    let (mut arrivals, mut owners) = (Vec::new(), Vec::new());
    for (owner, message) in messages.iter().enumerate() {
        let batch = message.batch_key();
        for (position, event) in message.events.iter().enumerate() {
            if seen.insert(event.key) {
                arrivals.push(Arrival { event, batch, position });
                owners.push(owner);
            }
        }
    }
    (arrivals, owners)
}

/// Dead-letters messages whole.
async fn refuse(
    config: &Config,
    session: &Session,
    messages: Vec<TakenMessage>,
    detail: &str,
) -> Result<Vec<TakenMessage>, RouterError> {
    let refused = messages
        .iter()
        .map(|message| message.dead(&Reject::new(Reason::BadData, detail), (config.clock)()));
    session.publisher().publish_all(refused.collect()).await?;
    ack_all(messages.into_iter().map(|message| message.settle)).await?;
    Ok(Vec::new())
}

/// A message from the queue, taken apart.
struct TakenMessage {
    message: Message,
    routing_key: String,
    redelivered: bool,
    settle: Settle,
    taken: Instant,
    batch: bool,
    events: Vec<Event>,
    documents: Vec<Document>,
    /// What can't be taken: an entry's own JSON, or nothing for the message as a whole.
    rejects: Vec<(Reject, Option<String>)>,
}

impl TakenMessage {
    fn parse(config: &Config, incoming: Incoming) -> Self {
        let Incoming { message, routing_key, redelivered, settle, .. } = incoming;
        let kept = message.headers.text(ROUTING_KEY).map(str::to_owned);
        let routing_key = kept.unwrap_or(routing_key);
        let (mut events, mut documents, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = false;
        match event::parse(&message.body, message.headers.text("traceparent"), &config.mask) {
            Err(reject) => rejects.push((reject, None)),
            Ok(published) => {
                batch = published.batch;
                for entry in published.entries {
                    match entry {
                        Entry::Event(event) => events.push(*event),
                        Entry::Directory(document) => documents.push(*document),
                        Entry::Rejected { reject, raw } => rejects.push((reject, Some(raw))),
                    }
                }
            }
        }
        if has_copy_in_directory_queue(&routing_key) {
            // What is wrong with a document is told once, by those who read that queue; what is
            // wrong with an event of this message is told here.
            rejects.retain(|(_, raw)| raw.as_ref().is_some_and(|raw| !is_document(raw)));
        }
        let taken = Instant::now();
        Self { message, routing_key, redelivered, settle, taken, batch, events, documents, rejects }
    }

    /// What its deliveries are known by.
    fn batch_key(&self) -> BatchKey {
        match self.events.as_slice() {
            [event] if !self.batch => BatchKey::single(event.key),
            events => BatchKey::batch(&events.iter().map(|event| event.key).collect::<Vec<_>>()),
        }
    }

    /// Whether it was taken so recently that the directory may catch up at once.
    fn may_wait_here(&self) -> bool {
        self.taken.elapsed() < SHORTLY
    }

    /// The dead letter of one that must be judged by a revision that nobody remembers.
    fn forgotten(&self, config: &Config) -> (Destination, Message) {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).min();
        let detail = format!(
            "the directory's history as of revision {} is not kept any more; \
             publish the event anew with a later accessrevision, or without one",
            wanted.unwrap_or_default(),
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// Sends it back to the queue in a second, or to the dead letters once it waited long enough.
    fn hold(&self, config: &Config) -> (Destination, Message) {
        let now = (config.clock)().timestamp_millis();
        let since = self.message.headers.int(HELD_SINCE).unwrap_or(now);
        if now - since > i64::try_from(config.hold.as_millis()).unwrap_or(i64::MAX) {
            let wanted = self.events.iter().filter_map(|event| event.access_revision).max();
            let detail = format!(
                "the directory did not reach revision {}, or documents before it are missing, \
                 within {} s; replay it when it has",
                wanted.unwrap_or_default(),
                config.hold.as_secs()
            );
            return self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)());
        }
        let mut message = self.message.clone();
        message.headers.set(HELD_SINCE, since).set(ROUTING_KEY, self.routing_key.as_str());
        let delay = Delay::at_least(Duration::from_secs(1));
        (Destination::Later { delay, back_to: BackTo::Events }, message)
    }

    /// The dead letters of what can't be taken.
    fn rejected(&self, now: DateTime<Utc>) -> Outgoing {
        let letter = |(reject, raw): &(Reject, Option<String>)| match raw {
            None => self.dead(reject, now),
            Some(raw) => {
                let mut entry = self.message.clone();
                entry.body = raw.clone().into();
                entry.content_type = Some(CONTENT_TYPE.to_owned());
                dead(&entry, &self.routing_key, reject, now)
            }
        };
        self.rejects.iter().map(letter).collect()
    }

    fn dead(&self, reject: &Reject, now: DateTime<Utc>) -> (Destination, Message) {
        let mut message = self.message.clone();
        message.headers.remove(HELD_SINCE);
        dead(&message, &self.routing_key, reject, now)
    }

    /// The events that an earlier taking of this message wrote, perhaps without their jobs.
    fn suspects(&self, results: &[(&Event, Routed)]) -> Vec<EventKey> {
        let known = results.iter().filter(|(_, routed)| *routed == Routed::Known);
        let keys = known.map(|(event, _)| event.key);
        if self.redelivered { keys.collect() } else { Vec::new() }
    }
}

fn dead(
    message: &Message,
    routing_key: &str,
    why: &Reject,
    now: DateTime<Utc>,
) -> (Destination, Message) {
    let code = why.reason.code();
    tracing::warn!(
        reason = code,
        detail = why.detail,
        "an event can't be taken; it is kept as a dead letter"
    );
    (Queue::EventsDead.into(), reject(message, routing_key, code, &why.detail, now))
}

/// Whether the queue `fanfare.directory` has this message too: it is bound with `directory.*`.
pub(crate) fn has_copy_in_directory_queue(routing_key: &str) -> bool {
    routing_key.strip_prefix("directory.").is_some_and(|rest| !rest.contains('.'))
}

/// Whether an entry says that it is a directory document.
pub(crate) fn is_document(raw: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_str::<Typed>(raw)
        .is_ok_and(|typed| typed.r#type.to_ascii_lowercase().starts_with("directory."))
}
