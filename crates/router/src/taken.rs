//! A message from the events' queue, taken apart: what it brings, what is to be done about it, and
//! the letters that follow when it can't be taken or has to wait.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::reject;
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{BackTo, Delay, Destination, Incoming, Message, Queue, Settle};
use fanfare_core::directory::Document;
use fanfare_core::event::{self, CONTENT_TYPE, Entry, Event, Published};
use fanfare_core::ids::{BatchKey, EventKey};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::routing::Routed;

use crate::Config;
use crate::refused::{entry_json, jump, taken_away, with_consequences};
use crate::tally::Tally;
use crate::telemetry;

/// How long a held event waits in memory before it goes round by the ladder: documents that were
/// published just before it are mostly a few milliseconds away, in another router.
const SHORTLY: Duration = Duration::from_millis(300);

/// When an event was first held for its directory revision (Unix milliseconds).
const HELD_SINCE: &str = "x-fanfare-held-since";
/// The routing key that a held event was published with.
const ROUTING_KEY: &str = "x-fanfare-routing-key";

/// That a message was set aside because the database failed with it.
const SET_ASIDE: &str = "x-fanfare-set-aside";
/// Whether the queue `fanfare.directory` did not get a copy of this message, or is done with it.
const ONLY_COPY: &str = "x-fanfare-only-copy";
/// How long it is set aside.
const ASIDE: Duration = Duration::from_secs(30);
/// Messages to publish.
pub(crate) type Outgoing = Vec<(Destination, Message)>;

/// Which copies of a message there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// This is the only one.
    One,
    /// The queue `fanfare.directory` has one too, where its documents are refused.
    Two,
}

/// A message from the queue, taken apart.
pub(crate) struct TakenMessage {
    message: Message,
    routing_key: String,
    redelivered: bool,
    copies: Copies,
    pub(crate) settle: Settle,
    taken: Instant,
    /// Whether it has waited in memory for its directory revision.
    waited: bool,
    /// When it was first sent round to wait (Unix milliseconds), if it was.
    held_since: Option<i64>,
    batch: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) documents: Vec<Document>,
    /// The places in the message of `documents`.
    places: Vec<usize>,
    /// What refused documents take away.
    pub(crate) taken_away: Vec<Document>,
    /// What can't be taken: an entry's own JSON, or nothing for the message as a whole.
    rejects: Vec<(Reject, Option<String>)>,
    /// Of its events.
    pub(crate) spans: Vec<tracing::Span>,
}

impl TakenMessage {
    pub(crate) fn parse(config: &Config, incoming: Incoming) -> Self {
        let came_back = is_own(&incoming);
        let parsed = parse(config, &incoming);
        let Incoming { message, routing_key, redelivered, settle, .. } = incoming;
        let kept = message.headers.text(ROUTING_KEY).filter(|_| came_back).map(str::to_owned);
        let routing_key = kept.unwrap_or(routing_key);
        let is_only = !is_for_directory_queue(&routing_key) || came_back && is_only_copy(&message);
        let copies = if is_only { Copies::One } else { Copies::Two };
        let held_since = message.headers.int(HELD_SINCE).filter(|_| came_back);
        let (mut events, mut documents, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = Vec::new();
        let mut batch = false;
        match parsed {
            Err(reject) => rejects.push((reject, None)),
            Ok(published) => {
                batch = published.batch;
                for (place, entry) in published.entries.into_iter().enumerate() {
                    match entry {
                        Entry::Event(event) => events.push(*event),
                        Entry::Directory(document) => {
                            documents.push(*document);
                            places.push(place);
                        }
                        Entry::Rejected { reject, raw } => rejects.push((reject, Some(raw))),
                    }
                }
            }
        }
        let mut away = Vec::new();
        for (reject, raw) in &mut rejects {
            let more = taken_away(&message, &routing_key, reject, raw.as_deref());
            *reject = with_consequences(reject.clone(), &more);
            away.extend(more);
        }
        if copies == Copies::Two {
            // What is wrong with a document is told once, by those who read that queue; what is
            // wrong with an event of this message is told here.
            rejects.retain(|(_, raw)| raw.as_ref().is_some_and(|raw| !is_document(raw)));
        }
        let spans = telemetry::begin(&mut events);
        Self {
            message,
            routing_key,
            redelivered,
            copies,
            settle,
            taken: Instant::now(),
            waited: false,
            held_since,
            batch,
            events,
            documents,
            places,
            taken_away: away,
            rejects,
            spans,
        }
    }

    /// When its oldest event happened, as far as the event's time can be believed; else when it
    /// began to wait.
    pub(crate) fn oldest(&self, now: DateTime<Utc>) -> Option<i64> {
        let began = self.held_since(now.timestamp_millis());
        let since = |event: &Event| {
            let waited = event::waited(event.time, now)?.as_millis();
            now.timestamp_millis().checked_sub(i64::try_from(waited).ok()?)
        };
        self.events.iter().map(|event| since(event).unwrap_or(began)).min()
    }

    /// How many events it brought.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// What its deliveries are known by.
    pub(crate) fn batch_key(&self) -> BatchKey {
        match self.events.as_slice() {
            [event] if !self.batch => BatchKey::single(event.key),
            events => BatchKey::batch(&events.iter().map(|event| event.key).collect::<Vec<_>>()),
        }
    }

    /// Takes out a document whose revision is not believed.
    pub(crate) fn refuse_jump(&mut self, at: usize, newest: i64) {
        if let Some(document) = self.documents.get(at) {
            self.refuse(at, jump(document, newest));
        }
    }

    /// Takes out a document that is refused. Those who read the directory's own queue make its letter,
    /// if they have it too.
    pub(crate) fn refuse(&mut self, at: usize, reject: Reject) {
        self.documents.remove(at);
        let place = self.places.remove(at);
        if self.copies == Copies::One {
            let raw = self.batch.then(|| entry_json(&self.message.body, place)).flatten();
            self.rejects.push((reject, raw));
        }
    }

    /// Whether no other queue has a copy of it.
    pub(crate) fn is_only_copy(&self) -> bool {
        self.copies == Copies::One
    }

    /// It waits in memory.
    pub(crate) fn waiting(self) -> Self {
        Self { waited: true, ..self }
    }

    /// Whether it was taken so recently that the directory may catch up at once.
    pub(crate) fn may_wait_here(&self) -> bool {
        self.taken.elapsed() < SHORTLY
    }

    /// Whether it has waited for the directory before, here or on the ladder.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited || self.held_since.is_some()
    }

    /// When it was first sent round to wait (Unix milliseconds); now, if it was not yet.
    fn held_since(&self, now: i64) -> i64 {
        // A time to come would let it wait for ever.
        self.held_since.unwrap_or(now).min(now)
    }

    /// Whether it has waited as long as it may.
    pub(crate) fn is_overdue(&self, config: &Config) -> bool {
        let now = (config.clock)().timestamp_millis();
        now.saturating_sub(self.held_since(now))
            > i64::try_from(config.hold.as_millis()).unwrap_or(i64::MAX)
    }

    /// The dead letter of one that must be judged by a revision that nobody remembers.
    pub(crate) fn forgotten(&self, config: &Config) -> (Destination, Message) {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).min();
        let detail = format!(
            "the directory's history as of revision {} is not kept any more; \
             publish the event anew with a later accessrevision, or without one",
            wanted.unwrap_or_default(),
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// The dead letter of one that waited in vain.
    pub(crate) fn overdue(&self, config: &Config) -> (Destination, Message) {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).max();
        let unless = wanted.map_or_else(String::new, |wanted| {
            format!(
                "the directory did not reach revision {wanted}, documents before it are missing, "
            )
        });
        let detail = format!(
            "{unless}{or}the directory is not complete or a snapshot of it was refused, for {} s; \
             `fanfare doctor` says which; replay it when that is mended",
            config.hold.as_secs(),
            or = if unless.is_empty() { "" } else { "or " },
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// Sends it back to the queue in a second.
    pub(crate) fn hold(&self, config: &Config) -> (Destination, Message) {
        let since = self.held_since((config.clock)().timestamp_millis());
        let mut message = self.message.clone();
        message.headers.set(HELD_SINCE, since).set(ROUTING_KEY, self.routing_key.as_str());
        message.headers.set(ONLY_COPY, self.copies == Copies::One);
        let delay = Delay::at_least(Duration::from_secs(1));
        (Destination::Later { delay, back_to: BackTo::Events }, message)
    }

    /// Sends it back to the queue in half a minute, because the database fails with it.
    pub(crate) fn set_aside(&self) -> (Destination, Message) {
        set_aside(&self.message, &self.routing_key, self.copies)
    }

    /// The dead letters of what can't be taken.
    pub(crate) fn rejected(&self, now: DateTime<Utc>) -> Outgoing {
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

    pub(crate) fn dead(&self, reject: &Reject, now: DateTime<Utc>) -> (Destination, Message) {
        let mut message = self.message.clone();
        for name in [HELD_SINCE, SET_ASIDE, ONLY_COPY] {
            message.headers.remove(name);
        }
        dead(&message, &self.routing_key, reject, now)
    }

    /// Counts it as settled, with the answers of the ledger.
    pub(crate) fn count(
        &self,
        tally: &mut Tally,
        results: &[(&Event, Routed)],
        now: DateTime<Utc>,
    ) {
        let mut new = 0;
        for (event, routed) in results {
            if let Routed::Taken { webhooks, .. } = routed {
                new += 1;
                tally.routed(!webhooks.is_empty(), event::waited(event.time, now));
            }
        }
        tally.events(self.events.iter().map(|event| event.filter), self.len() - new);
        if self.copies == Copies::One {
            tally.documents(self.documents.len());
        }
        self.rejects.iter().for_each(|(reject, _)| tally.unreadable(reject.reason));
    }

    /// Counts it as one dead letter.
    pub(crate) fn count_dead(&self, tally: &mut Tally, reason: Reason) {
        tally.events(self.events.iter().map(|event| event.filter), 0);
        tally.letter(reason, self.len().max(1));
    }

    /// The events that an earlier taking of this message wrote, perhaps without their jobs.
    /// `in_doubt` says that an answer of the ledger was lost, after which the same may be so.
    pub(crate) fn suspects(&self, results: &[(&Event, Routed)], in_doubt: bool) -> Vec<EventKey> {
        let known = results.iter().filter(|(_, routed)| *routed == Routed::Known);
        let keys = known.map(|(event, _)| event.key);
        if self.redelivered || in_doubt { keys.collect() } else { Vec::new() }
    }
}

/// Sends a message to the queue `fanfare.events` in half a minute.
pub(crate) fn set_aside(
    message: &Message,
    routing_key: &str,
    copies: Copies,
) -> (Destination, Message) {
    let mut message = message.clone();
    message.headers.set(SET_ASIDE, true).set(ROUTING_KEY, routing_key);
    message.headers.set(ONLY_COPY, copies == Copies::One);
    (Destination::Later { delay: Delay::at_least(ASIDE), back_to: BackTo::Events }, message)
}

fn dead(
    message: &Message,
    routing_key: &str,
    why: &Reject,
    now: DateTime<Utc>,
) -> (Destination, Message) {
    let code = why.reason.code();
    tracing::warn!(
        event.id = crate::told::event_id(message),
        reason = code,
        detail = why.detail,
        "an event can't be taken; it is kept as a dead letter"
    );
    (Queue::EventsDead.into(), reject(message, routing_key, code, &why.detail, now))
}

/// Whether a message's own headers are Fanfare's word: it came back from the delay ladder, or from
/// the dead letters. What comes by the report server's exchange may have any headers.
pub(crate) fn is_own(incoming: &Incoming) -> bool {
    incoming.exchange != EVENTS_EXCHANGE
}

/// Takes a message's body apart, if the message is such that its body means something.
pub(crate) fn parse(config: &Config, incoming: &Incoming) -> Result<Published, Reject> {
    if let Some(why) = &incoming.unreadable {
        let detail = format!("the message's AMQP properties can't be decoded: {why}");
        return Err(Reject::new(Reason::Unreadable, detail));
    }
    event::parse_message(&incoming.message.as_event(), &config.mask)
}

/// Whether the queue `fanfare.directory` gets what is published with this key: it is bound with
/// `directory.*`.
fn is_for_directory_queue(routing_key: &str) -> bool {
    routing_key.strip_prefix("directory.").is_some_and(|rest| !rest.contains('.'))
}

/// Whether a message that came back is the only copy. A replayed dead letter is: it says nothing.
fn is_only_copy(message: &Message) -> bool {
    message.headers.flag(ONLY_COPY).unwrap_or(true)
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
