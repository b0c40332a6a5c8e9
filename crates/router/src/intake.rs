//! Events in: messages from the queue to the ledger to jobs, then the acknowledgement.
//!
//! The order is what makes it safe. A router that dies before the ledger has the events has done
//! nothing; one that dies after it gets the messages again, finds the events known, and publishes
//! copies of the jobs that may be lost.

use std::collections::HashSet;
use std::time::Duration;

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
    while let Some(next) = stop.run_until_cancelled(consumer.next_batch(most, LINGER)).await {
        let Some(batch) = next else { break };
        let messages = batch?.into_iter().map(TakenMessage::parse).collect();
        settle(config, session, stop, messages).await?;
    }
    Ok(consumer.cancel().await?)
}

/// Routes messages and acknowledges them.
async fn settle(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    messages: Vec<TakenMessage>,
) -> Result<(), RouterError> {
    take_documents(config, stop, &messages).await?;
    let (arrivals, owners) = arrivals(&messages);
    let routed = match patiently(stop, || config.store.route(&arrivals)).await {
        Err(Impatient::Refused(error)) if messages.len() == 1 => {
            tracing::warn!(error = error.chain(), "the database refused an event");
            return refuse(config, session, messages, &error.chain()).await;
        }
        Err(Impatient::Refused(_)) => {
            // One of them is to blame; the others must not suffer for it.
            for message in messages {
                Box::pin(settle(config, session, stop, vec![message])).await?;
            }
            return Ok(());
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
    for (message, results) in messages.iter().zip(results) {
        if results.iter().any(|(_, routed)| *routed == Routed::Held) {
            outgoing.push(message.hold(config));
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
    ack_all(messages.into_iter().map(|message| message.settle)).await?;
    Ok(())
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
) -> Result<(), RouterError> {
    let refused = messages
        .iter()
        .map(|message| message.dead(&Reject::new(Reason::BadData, detail), (config.clock)()));
    session.publisher().publish_all(refused.collect()).await?;
    ack_all(messages.into_iter().map(|message| message.settle)).await?;
    Ok(())
}

/// A message from the queue, taken apart.
struct TakenMessage {
    message: Message,
    routing_key: String,
    redelivered: bool,
    settle: Settle,
    batch: bool,
    events: Vec<Event>,
    documents: Vec<Document>,
    /// What can't be taken: an entry's own JSON, or nothing for the message as a whole.
    rejects: Vec<(Reject, Option<String>)>,
}

impl TakenMessage {
    fn parse(incoming: Incoming) -> Self {
        let Incoming { message, routing_key, redelivered, settle, .. } = incoming;
        let kept = message.headers.text(ROUTING_KEY).map(str::to_owned);
        let routing_key = kept.unwrap_or(routing_key);
        let (mut events, mut documents, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = false;
        match event::parse(&message.body, message.headers.text("traceparent")) {
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
        Self { message, routing_key, redelivered, settle, batch, events, documents, rejects }
    }

    /// What its deliveries are known by.
    fn batch_key(&self) -> BatchKey {
        match self.events.as_slice() {
            [event] if !self.batch => BatchKey::single(event.key),
            events => BatchKey::batch(&events.iter().map(|event| event.key).collect::<Vec<_>>()),
        }
    }

    /// Sends it back to the queue in a second, or to the dead letters once it waited long enough.
    fn hold(&self, config: &Config) -> (Destination, Message) {
        let now = (config.clock)().timestamp_millis();
        let since = self.message.headers.int(HELD_SINCE).unwrap_or(now);
        if now - since > i64::try_from(config.hold.as_millis()).unwrap_or(i64::MAX) {
            let wanted = self.events.iter().filter_map(|event| event.access_revision).max();
            let detail = format!(
                "the directory did not reach revision {} within {} s; replay it when it has",
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
