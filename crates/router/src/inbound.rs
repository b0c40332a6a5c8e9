//! A parsed message from the queue of events, and the messages that follow from it when it is refused
//! or has to wait.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{BackTo, Delay, Destination, Incoming, Message, Settle};
use fanfare_core::directory::Document;
use fanfare_core::event::{self, CONTENT_TYPE, Entry, Event, Published};
use fanfare_core::ids::{BatchKey, EventKey};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::kept::Kind;
use fanfare_store::routing::Routed;
use uuid::Uuid;

use crate::Config;
use crate::batch_metrics::BatchMetrics;
use crate::kept::{Kept, Row, dead_letter};
use crate::outgoing::HELD_SINCE;
use crate::refusal::{entry_json, implausible_revision, voided, with_consequences};
use crate::telemetry;

/// How long a held event waits in memory before it waits in the delay ladder. Documents that were
/// published just before it usually arrive within a few milliseconds, in another router.
const MAX_MEMORY_WAIT: Duration = Duration::from_millis(300);

/// The routing key that a held event was published with.
const ROUTING_KEY: &str = "x-fanfare-routing-key";

/// Marks a message that was set aside because the database failed with it.
const SET_ASIDE: &str = "x-fanfare-set-aside";
/// Whether this is the only copy: the queue `fanfare.directory` got none, or is done with it.
const ONLY_COPY: &str = "x-fanfare-only-copy";
/// How long a message is set aside.
const SET_ASIDE_TIME: Duration = Duration::from_secs(30);

/// The copies of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// This is the only copy.
    One,
    /// The queue `fanfare.directory` has a copy too, and dead letters for refused documents are made
    /// there.
    Two,
}

/// A parsed message from the queue.
pub(crate) struct InboundMessage {
    message: Message,
    routing_key: String,
    redelivered: bool,
    copies: Copies,
    pub(crate) settle: Settle,
    received_at: Instant,
    /// Whether it has waited in memory for the directory.
    waited: bool,
    /// When it first began to wait in the delay ladder (Unix milliseconds), if it did.
    held_since: Option<i64>,
    /// The row of the ledger that keeps it, if it came back.
    kept_id: Option<Uuid>,
    batch: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) documents: Vec<Document>,
    /// The position of each of `documents` in the message.
    positions: Vec<usize>,
    /// The documents that void what refused documents name.
    pub(crate) voided: Vec<Document>,
    /// The refusals, each with the JSON of its entry, or `None` for the message as a whole.
    rejects: Vec<(Reject, Option<String>)>,
    /// The spans of its events.
    pub(crate) spans: Vec<tracing::Span>,
}

impl InboundMessage {
    pub(crate) fn parse(config: &Config, mut incoming: Incoming) -> Self {
        let came_back = is_own(&incoming);
        let kept_id = take_kept_id(&mut incoming);
        let parsed = parse(config, &incoming);
        let Incoming { message, routing_key, redelivered, settle, .. } = incoming;
        let kept = message.headers.text(ROUTING_KEY).filter(|_| came_back).map(str::to_owned);
        let routing_key = kept.unwrap_or(routing_key);
        let is_only = !is_for_directory_queue(&routing_key) || came_back && is_only_copy(&message);
        let copies = if is_only { Copies::One } else { Copies::Two };
        let held_since = message.headers.int(HELD_SINCE).filter(|_| came_back);
        let (mut events, mut documents, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        let mut positions = Vec::new();
        let mut batch = false;
        match parsed {
            Err(reject) => rejects.push((reject, None)),
            Ok(published) => {
                batch = published.batch;
                for (position, entry) in published.entries.into_iter().enumerate() {
                    match entry {
                        Entry::Event(event) => events.push(*event),
                        Entry::Directory(document) => {
                            documents.push(*document);
                            positions.push(position);
                        }
                        Entry::Rejected { reject, raw } => rejects.push((reject, Some(raw))),
                    }
                }
            }
        }
        let mut away = Vec::new();
        for (reject, raw) in &mut rejects {
            let more = voided(&message, &routing_key, reject, raw.as_deref());
            *reject = with_consequences(reject.clone(), &more);
            away.extend(more);
        }
        if copies == Copies::Two {
            // A refused document has one dead letter, from the queue `fanfare.directory`. The refused
            // events of this message have theirs from here.
            rejects.retain(|(_, raw)| raw.as_ref().is_some_and(|raw| !is_document(raw)));
        }
        let spans = telemetry::begin(&mut events);
        Self {
            message,
            routing_key,
            redelivered,
            copies,
            settle,
            received_at: Instant::now(),
            waited: false,
            held_since,
            kept_id,
            batch,
            events,
            documents,
            positions,
            voided: away,
            rejects,
            spans,
        }
    }

    /// The time of its oldest event. For an event whose time is not plausible it is when the message
    /// began to wait.
    pub(crate) fn oldest(&self, now: DateTime<Utc>) -> Option<i64> {
        let began = self.held_since(now.timestamp_millis());
        let since = |event: &Event| {
            let waited = event::waited(event.time, now)?.as_millis();
            now.timestamp_millis().checked_sub(i64::try_from(waited).ok()?)
        };
        self.events.iter().map(|event| since(event).unwrap_or(began)).min()
    }

    /// The number of its events.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The key of its batch, from which the ids of its deliveries are derived.
    pub(crate) fn batch_key(&self) -> BatchKey {
        match self.events.as_slice() {
            [event] if !self.batch => BatchKey::single(event.key),
            events => BatchKey::batch(&events.iter().map(|event| event.key).collect::<Vec<_>>()),
        }
    }

    /// Removes a document whose revision is not plausible, and refuses it.
    pub(crate) fn refuse_implausible_revision(&mut self, at: usize, newest: i64) {
        if let Some(document) = self.documents.get(at) {
            self.refuse(at, implausible_revision(document, newest));
        }
    }

    /// Removes a document, and refuses it. If the directory's own queue has it too, its dead letter is
    /// made there.
    pub(crate) fn refuse(&mut self, at: usize, reject: Reject) {
        self.documents.remove(at);
        let position = self.positions.remove(at);
        if self.copies == Copies::One {
            let raw = self.batch.then(|| entry_json(&self.message.body, position)).flatten();
            self.rejects.push((reject, raw));
        }
    }

    /// Whether this is the only copy.
    pub(crate) fn is_only_copy(&self) -> bool {
        self.copies == Copies::One
    }

    /// The message after a wait in memory.
    pub(crate) fn waiting(self) -> Self {
        Self { waited: true, ..self }
    }

    /// Whether it was received so recently that the directory may catch up soon.
    pub(crate) fn may_wait_here(&self) -> bool {
        self.received_at.elapsed() < MAX_MEMORY_WAIT
    }

    /// Whether it has waited for the directory before, in memory or in the delay ladder.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited || self.held_since.is_some()
    }

    /// When it first began to wait in the delay ladder (Unix milliseconds); `now` if it did not.
    fn held_since(&self, now: i64) -> i64 {
        // A time in the future would let it wait for ever.
        self.held_since.unwrap_or(now).min(now)
    }

    /// Whether it has waited for the longest time allowed.
    pub(crate) fn is_overdue(&self, config: &Config) -> bool {
        let now = (config.clock)().timestamp_millis();
        now.saturating_sub(self.held_since(now))
            > i64::try_from(config.hold.as_millis()).unwrap_or(i64::MAX)
    }

    /// The dead letter of a message whose directory revision is no longer in the history.
    pub(crate) fn forgotten(&self, config: &Config) -> Kept {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).min();
        let detail = format!(
            "the directory's history as of revision {} is not kept any more; \
             publish the event again with a later accessrevision, or without one",
            wanted.unwrap_or_default(),
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// The dead letter of a message that has waited too long for the directory.
    pub(crate) fn overdue(&self, config: &Config) -> Kept {
        let wanted = self.events.iter().filter_map(|event| event.access_revision).max();
        let unless = wanted.map_or_else(String::new, |wanted| {
            format!(
                "the directory did not reach revision {wanted}, documents before it are missing, "
            )
        });
        let detail = format!(
            "{unless}{or}the directory is not complete or a snapshot of it was refused, for {} s; \
             `fanfare doctor` says which; replay it when that is repaired",
            config.hold.as_secs(),
            or = if unless.is_empty() { "" } else { "or " },
        );
        self.dead(&Reject::new(Reason::DirectoryBehind, detail), (config.clock)())
    }

    /// The message that brings it back to the queue after a second. Its row is written when it begins to
    /// wait, and not each time.
    pub(crate) fn hold(&self, config: &Config) -> Kept {
        let now = (config.clock)().timestamp_millis();
        let since = self.held_since(now);
        let id = self.kept_id.unwrap_or_else(Uuid::new_v4);
        let mut message = self.message.clone();
        message.headers.set(HELD_SINCE, since).set(ROUTING_KEY, self.routing_key.as_str());
        message.headers.set(ONLY_COPY, self.copies == Copies::One);
        message.set_kept_id(id);
        let waited = Duration::from_millis(u64::try_from(now - since).unwrap_or_default());
        let begins = self.held_since.is_none() || self.kept_id.is_none();
        let row = begins.then(|| Row {
            id,
            kind: Kind::Held,
            routing_key: self.routing_key.clone(),
            reason: None,
            may_be_kept: self.redelivered && self.kept_id.is_none(),
            hold: Some(config.hold.saturating_sub(waited)),
        });
        let delay = Delay::at_least(Duration::from_secs(1));
        let destination = Destination::Later { delay, back_to: BackTo::Events };
        Kept { destination, message, row }
    }

    /// The message that brings it back to the queue after half a minute, because the database fails
    /// with it. It gets no row, for the same reason.
    pub(crate) fn set_aside(&self) -> Kept {
        set_aside(&self.message, &self.routing_key, self.copies, self.kept_id)
    }

    /// The dead letters of its refusals.
    pub(crate) fn rejected(&self, now: DateTime<Utc>) -> Vec<Kept> {
        let letter = |(reject, raw): &(Reject, Option<String>)| match raw {
            None => self.dead(reject, now),
            Some(raw) => {
                let mut entry = self.message.clone();
                entry.body = raw.clone().into();
                entry.content_type = Some(CONTENT_TYPE.to_owned());
                self.letter(&entry, self.kept_id.filter(|_| self.becomes_one_letter()), reject, now)
            }
        };
        self.rejects.iter().map(letter).collect()
    }

    /// Whether all that follows from it is one dead letter, which takes its row over.
    fn becomes_one_letter(&self) -> bool {
        self.rejects.len() == 1 && self.events.is_empty() && self.documents.is_empty()
    }

    /// The row of the ledger that is settled when what follows from it is done.
    pub(crate) fn settled_row(&self) -> Option<Uuid> {
        self.kept_id.filter(|_| !self.becomes_one_letter())
    }

    /// The dead letter of the whole message.
    pub(crate) fn dead(&self, reject: &Reject, now: DateTime<Utc>) -> Kept {
        self.letter(&self.message, self.kept_id, reject, now)
    }

    fn letter(
        &self,
        message: &Message,
        id: Option<Uuid>,
        why: &Reject,
        now: DateTime<Utc>,
    ) -> Kept {
        let mut message = message.clone();
        for name in [HELD_SINCE, SET_ASIDE, ONLY_COPY] {
            message.headers.remove(name);
        }
        tracing::warn!(
            event.id = crate::event_id::event_id(&message),
            reason = why.reason.code(),
            detail = why.detail,
            "refused an event; it becomes a dead letter"
        );
        let mut letter = dead_letter(&message, &self.routing_key, why, now);
        if let Some(row) = &mut letter.row {
            row.may_be_kept = self.redelivered && id.is_none();
            row.id = id.unwrap_or(row.id);
        }
        letter
    }

    /// Counts it as settled, with the answers of the ledger.
    pub(crate) fn count(
        &self,
        metrics: &mut BatchMetrics,
        results: &[(&Event, Routed)],
        now: DateTime<Utc>,
    ) {
        let mut new = 0;
        for (event, routed) in results {
            if let Routed::Accepted { webhooks, .. } = routed {
                new += 1;
                metrics.routed(!webhooks.is_empty(), event::waited(event.time, now));
            }
        }
        metrics.events(self.events.iter().map(|event| event.filter), self.len() - new);
        if self.copies == Copies::One {
            metrics.documents(self.documents.len());
        }
        self.rejects.iter().for_each(|(reject, _)| metrics.unreadable(reject.reason));
    }

    /// Counts it as one dead letter.
    pub(crate) fn count_dead(&self, metrics: &mut BatchMetrics, reason: Reason) {
        metrics.events(self.events.iter().map(|event| event.filter), 0);
        metrics.letter(reason, self.len().max(1));
    }

    /// The events whose jobs may be lost: an earlier delivery of this message may have written them
    /// without publishing their jobs. `in_doubt` says that an answer of the ledger was lost, which may
    /// have the same result.
    pub(crate) fn suspects(&self, results: &[(&Event, Routed)], in_doubt: bool) -> Vec<EventKey> {
        let known = results.iter().filter(|(_, routed)| *routed == Routed::Known);
        let keys = known.map(|(event, _)| event.key);
        if self.redelivered || in_doubt { keys.collect() } else { Vec::new() }
    }
}

/// The message that brings a message to the queue `fanfare.events` after half a minute.
pub(crate) fn set_aside(
    message: &Message,
    routing_key: &str,
    copies: Copies,
    kept_id: Option<Uuid>,
) -> Kept {
    let mut message = message.clone();
    message.headers.set(SET_ASIDE, true).set(ROUTING_KEY, routing_key);
    message.headers.set(ONLY_COPY, copies == Copies::One);
    if let Some(id) = kept_id {
        message.set_kept_id(id);
    }
    let delay = Delay::at_least(SET_ASIDE_TIME);
    Kept { destination: Destination::Later { delay, back_to: BackTo::Events }, message, row: None }
}

/// Takes the name of the row that keeps a message out of its headers. A message from the report server's
/// exchange has no row, whatever its headers say.
pub(crate) fn take_kept_id(incoming: &mut Incoming) -> Option<Uuid> {
    let id = incoming.message.kept_id().filter(|_| is_own(incoming));
    incoming.message.remove_kept_id();
    id
}

/// Whether a message's headers are Fanfare's own, because it came back from the delay ladder or from
/// the dead letters. A message from the report server's exchange may have any headers.
pub(crate) fn is_own(incoming: &Incoming) -> bool {
    incoming.exchange != EVENTS_EXCHANGE
}

/// Parses a message's body, if the message's properties could be decoded.
pub(crate) fn parse(config: &Config, incoming: &Incoming) -> Result<Published, Reject> {
    if let Some(why) = &incoming.unreadable {
        let detail = format!("the message's AMQP properties can't be decoded: {why}");
        return Err(Reject::new(Reason::Unreadable, detail));
    }
    event::parse_message(&incoming.message.as_event(), &config.mask)
}

/// Whether messages with this routing key go to the queue `fanfare.directory` too, which is bound with
/// `directory.*`.
fn is_for_directory_queue(routing_key: &str) -> bool {
    routing_key.strip_prefix("directory.").is_some_and(|rest| !rest.contains('.'))
}

/// Whether a message that came back is the only copy. A replayed dead letter, which has no such header,
/// is.
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
