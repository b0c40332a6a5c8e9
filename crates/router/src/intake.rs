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
use crate::tally::Tally;

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
    let mut waiting: Vec<TakenMessage> = Vec::new();
    loop {
        config.metrics.waiting(waiting.iter().map(TakenMessage::len).sum());
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
    let began = Instant::now();
    take_documents(config, stop, &messages).await?;
    let (arrivals, owners) = arrivals(&messages);
    let route = async || {
        let began = Instant::now();
        let routed = config.store.route(&arrivals, config.gap_wait).await?;
        config.metrics.statement(began.elapsed());
        Ok(routed)
    };
    let routed = match patiently(stop, route).await {
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
    let mut tally = Tally::default();
    for (index, (message, results)) in messages.iter().zip(results).enumerate() {
        if results.iter().any(|(_, routed)| *routed == Routed::Forgotten) {
            outgoing.push(message.forgotten(config));
            message.count_dead(&mut tally, Reason::DirectoryBehind);
            continue;
        }
        if results.iter().any(|(_, routed)| *routed == Routed::Held) {
            if !message.has_waited() {
                config.metrics.held(message.len());
            }
            if message.may_wait_here() && held.len() < MOST_WAITING {
                held.insert(index);
            } else if message.is_overdue(config) {
                outgoing.push(message.overdue(config));
                message.count_dead(&mut tally, Reason::DirectoryBehind);
            } else {
                outgoing.push(message.hold(config));
            }
            continue;
        }
        outgoing.extend(message.rejected((config.clock)()));
        message.count(&mut tally, &results);
        suspects.extend(message.suspects(&results));
        units.extend(jobs::unit(message.batch_key(), results));
    }
    let copies = patiently(stop, || config.store.route_unsettled(&suspects)).await?;
    config.metrics.planned(units.iter().map(|unit| unit.deliveries.len()).sum());
    outgoing.extend(jobs::fresh(units)?);
    outgoing.extend(jobs::copies(&copies)?);
    session.publisher().publish_all(outgoing).await?;
    config.metrics.batch(arrivals.len(), began.elapsed());
    tally.count(&config.metrics);
    let (waiting, done): (Vec<_>, Vec<_>) =
        messages.into_iter().enumerate().partition(|(index, _)| held.contains(index));
    ack_all(done.into_iter().map(|(_, message)| message.settle)).await?;
    Ok(waiting.into_iter().map(|(_, message)| TakenMessage { waited: true, ..message }).collect())
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
    let mut tally = Tally::default();
    for message in &messages {
        message.count_dead(&mut tally, Reason::BadData);
    }
    tally.count(&config.metrics);
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
    /// Whether it has waited in memory for its directory revision.
    waited: bool,
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
        Self {
            message,
            routing_key,
            redelivered,
            settle,
            taken: Instant::now(),
            waited: false,
            batch,
            events,
            documents,
            rejects,
        }
    }

    /// How many events it brought.
    fn len(&self) -> usize {
        self.events.len()
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

    /// Whether it has waited for the directory before, here or on the ladder.
    fn has_waited(&self) -> bool {
        self.waited || self.message.headers.int(HELD_SINCE).is_some()
    }

    /// When it was first sent round to wait (Unix milliseconds); now, if it was not yet.
    fn held_since(&self, now: i64) -> i64 {
        self.message.headers.int(HELD_SINCE).unwrap_or(now)
    }

    /// Whether it has waited as long as it may.
    fn is_overdue(&self, config: &Config) -> bool {
        let now = (config.clock)().timestamp_millis();
        now - self.held_since(now) > i64::try_from(config.hold.as_millis()).unwrap_or(i64::MAX)
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

    /// The dead letter of one that waited in vain.
    fn overdue(&self, config: &Config) -> (Destination, Message) {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).max();
        let detail = format!(
            "the directory did not reach revision {}, or documents before it are missing, \
             within {} s; replay it when it has",
            wanted.unwrap_or_default(),
            config.hold.as_secs()
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// Sends it back to the queue in a second.
    fn hold(&self, config: &Config) -> (Destination, Message) {
        let since = self.held_since((config.clock)().timestamp_millis());
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

    /// Counts it as settled, with the answers of the ledger.
    fn count(&self, tally: &mut Tally, results: &[(&Event, Routed)]) {
        let is_new = |(_, routed): &&(&Event, Routed)| matches!(routed, Routed::Taken { .. });
        let new = results.iter().filter(is_new).count();
        tally.events(self.events.iter().map(|event| event.filter), self.len() - new);
        if !has_copy_in_directory_queue(&self.routing_key) {
            tally.documents(self.documents.len());
        }
        self.rejects.iter().for_each(|(reject, _)| tally.unreadable(reject.reason));
    }

    /// Counts it as one dead letter.
    fn count_dead(&self, tally: &mut Tally, reason: Reason) {
        tally.events(self.events.iter().map(|event| event.filter), 0);
        tally.letter(reason, self.len().max(1));
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
