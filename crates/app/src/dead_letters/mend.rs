//! The correction of a dead event: shown beside its original, checked as a router parses it, and published
//! in its place.
//!
//! One transaction keeps the corrected message, settles the original and adds the entry of the audit trail.
//! Then the message is published. If the process ends in between, routers publish it. The original keeps
//! its row and its body.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::{EncodedLetter, reject};
use fanfare_broker::{Message, PublishError, Queue};
use fanfare_core::audit::Entry;
use fanfare_core::audit::entry::{Letter as AuditLetter, Mended as AuditMended};
use fanfare_core::chain::chain;
use fanfare_core::dead_letter::{Choice, Kind, Letter, Source};
use fanfare_core::event::Event;
use fanfare_core::ids::EventKey;
use fanfare_core::kept::Contents;
use fanfare_core::mend::{self, Fault};
use fanfare_letters::sweep;
use fanfare_store::StoreError;
use fanfare_store::kept::{self, Mendable, NewKept};
use fanfare_store::letters::ReplayedEvent;
use uuid::Uuid;

use super::{batch, select};
use crate::{Actor, Context, NotAdministrator, clock};

/// The header with the trace context, which the corrected event keeps.
const TRACEPARENT: &str = "traceparent";

/// The most ids of events in an entry of the audit trail.
const NAMED: usize = 20;

/// Why a dead letter was not mended.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no open letter with this id.
    #[error("there is no such dead letter, or it was replayed or discarded meanwhile")]
    Unknown,
    /// The letter is not of an event.
    #[error("only dead events can be mended; replay a delivery when its receiver is repaired")]
    Delivery,
    /// The database does not have the message.
    #[error(
        "only its queue has this letter, so it can't be mended; publish a corrected event, then discard \
         the letter"
    )]
    OnlyInQueue,
    /// The corrected text can't be published.
    #[error("the text can't be published: {}", faults(.0))]
    Faulty(Vec<Fault>),
    /// Events with the same source and id were routed before, so routers would drop these as duplicates.
    #[error("{}", repeated(.0))]
    Repeated(Vec<Repeated>),
    /// The corrected message does not fit into a message of the broker.
    #[error(transparent)]
    Unsendable(#[from] PublishError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn faults(faults: &[Fault]) -> String {
    let sentence = |fault: &Fault| match fault.position {
        Some(position) => format!("event {}: {}", position + 1, fault.detail),
        None => fault.detail.clone(),
    };
    faults.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

fn repeated(events: &[Repeated]) -> String {
    events.iter().map(Repeated::sentence).collect::<Vec<_>>().join("; ")
}

/// An event that was routed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The `CloudEvents` source.
    pub source: String,
    /// The `CloudEvents` id.
    pub id: String,
    /// When it was routed last.
    pub routed_at: DateTime<Utc>,
}

impl Repeated {
    /// What is wrong, for a person; without a period.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { source, id, routed_at } = self;
        let at = clock::rfc3339(*routed_at);
        format!(
            "an event with the source {source} and the id {id} was routed at {at}, so routers \
             drop this one as a duplicate; give it another id if it is another event"
        )
    }
}

/// What to do with a corrected text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Only check it.
    Check,
    /// Publish it, unless one of its events was routed before.
    Publish,
    /// Publish it, although routers drop those of its events that were routed before.
    PublishRepeated,
}

/// A dead event with the text that a person corrects.
#[derive(Debug)]
pub struct Original {
    pub letter: Letter,
    /// The event in structured mode, as far as it can be read.
    pub text: String,
    /// Whether values were masked when it was stored.
    pub is_masked: bool,
    id: Uuid,
    message: Message,
}

/// The result of a check, or of a correction.
#[derive(Debug)]
pub struct Mended {
    /// The events that are published.
    pub events: Vec<Event>,
    /// Those of them that were routed before, so that routers drop them.
    pub repeated: Vec<Repeated>,
    /// Whether the broker has confirmed the message. If not, a router publishes it within minutes.
    pub confirmed: bool,
}

/// Finds a dead event for its correction.
///
/// # Errors
///
/// [`MendError`]
pub async fn original(context: &Context, actor: &Actor, id: &str) -> Result<Original, MendError> {
    actor.administrator()?;
    let choice = Choice::of_ids(vec![id.replace('\0', "")]);
    let letter = select(&context.store, &choice, None, 1).await?.letters.pop();
    let letter = letter.ok_or(MendError::Unknown)?;
    match (letter.kind, letter.source) {
        (Kind::Deliveries, _) => return Err(MendError::Delivery),
        (Kind::Events, Source::Broker) => return Err(MendError::OnlyInQueue),
        (Kind::Events, Source::Ledger) => {}
    }
    let id = Uuid::parse_str(&letter.id).map_err(|_| MendError::Unknown)?;
    let found = context.store.kept_mendable(id).await?;
    let Mendable { kept, digest } = found.ok_or(MendError::Unknown)?;
    let encoded = EncodedLetter { id, properties: kept.properties, body: kept.body };
    let message = encoded.decode().ok_or(MendError::OnlyInQueue)?;
    let text = message.as_event().structured_text();
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&message.body).into_owned());
    // The digest is that of the message before it was masked.
    let is_masked = message.stable_digest(&[]) != digest;
    Ok(Original { letter, text, is_masked, id, message })
}

/// Checks a corrected text, and publishes it in place of the dead event if that is the wish.
///
/// # Errors
///
/// [`MendError`]
pub async fn mend(
    context: &Context,
    actor: &Actor,
    original: &Original,
    text: &str,
    wish: Wish,
) -> Result<Mended, MendError> {
    actor.administrator()?;
    let mut message = Message::new(text.to_owned(), mend::content_type(text));
    if let Some(trace) = original.message.headers.text(TRACEPARENT) {
        message.headers.set(TRACEPARENT, trace);
    }
    let events = mend::check(&message.as_event(), &context.mask, original.is_masked)
        .map_err(MendError::Faulty)?;
    let repeated = find_repeated(context, &events).await?;
    match wish {
        Wish::Check => return Ok(Mended { events, repeated, confirmed: false }),
        Wish::Publish if !repeated.is_empty() => return Err(MendError::Repeated(repeated)),
        Wish::Publish | Wish::PublishRepeated => {}
    }
    let mended = kept_row(context, original, message)?;
    let entry = entry(original, &events, &mended);
    if !context.store.kept_mend(original.id, &mended, &actor.author(), &entry).await? {
        return Err(MendError::Unknown);
    }
    tracing::info!(letter.id = original.letter.id, by = %actor, "mended a dead event");
    let NewKept { id, properties, body, .. } = mended;
    let confirmed = publish(context, ReplayedEvent { id, properties, body }).await;
    Ok(Mended { events, repeated, confirmed })
}

/// Those of the events that were routed before.
async fn find_repeated(context: &Context, events: &[Event]) -> Result<Vec<Repeated>, StoreError> {
    let keys: Vec<EventKey> = events.iter().map(|event| event.key).collect();
    let routed = context.store.events_routed_at(&keys).await?;
    let repeated = |event: &Event| {
        let routed_at = *routed.get(&event.key)?;
        Some(Repeated { source: event.source.clone(), id: event.id.clone(), routed_at })
    };
    Ok(events.iter().filter_map(repeated).collect())
}

/// The row that keeps the corrected message, as that of a dead event which is replayed.
fn kept_row(
    context: &Context,
    original: &Original,
    mut message: Message,
) -> Result<NewKept, MendError> {
    let id = Uuid::new_v4();
    let event = message.as_event();
    let (routing_key, contents) = (event.routing_key(), Contents::of(&event));
    // A router masks the same values of a valid event, so receivers get what the text says.
    let body = context.mask.apply_to_message(&event).into_owned();
    message.body = body.clone().into();
    let Letter { reason, detail, .. } = &original.letter;
    let mut kept = reject(&message, &routing_key, reason, detail, clock::now());
    kept.set_letter_id(id);
    Ok(NewKept {
        id,
        kind: kept::Kind::Dead,
        queue: Queue::EventsDead.name(),
        routing_key,
        properties: kept.encode_properties()?,
        body,
        reason: None,
        contents,
        digest: kept.stable_digest(&[]),
        may_be_kept: false,
        hold: None,
    })
}

fn entry(original: &Original, events: &[Event], mended: &NewKept) -> Entry {
    let letter = &original.letter;
    let shown = AuditLetter {
        id: &letter.id,
        queue: letter.kind.name(),
        reason: &letter.reason,
        event: letter.event.clone(),
        delivery: None,
        webhook: None,
    };
    let ids: Vec<&str> = events.iter().take(NAMED).map(|event| event.id.as_str()).collect();
    let (before, after) = (mend::digest(&original.message.body), mend::digest(&mended.body));
    Entry::dead_letter_mended(
        &shown,
        &AuditMended {
            message: mended.id,
            events: &ids,
            digest_before: &before,
            digest_after: &after,
        },
    )
}

/// Publishes the corrected message, and returns whether the broker has confirmed it. The original leaves
/// its queue now, or when a router finds that it was settled.
async fn publish(context: &Context, event: ReplayedEvent) -> bool {
    let Some((_, to, message)) = batch::message(event) else { return false };
    let Some(session) = context.publisher.session().await else { return false };
    if let Err(error) = session.publisher().publish(&to, message).await {
        tracing::warn!(
            error = chain(&error),
            "a mended event was not confirmed; a router publishes it"
        );
        return false;
    }
    if let Err(error) = sweep(&session, &context.store, Kind::Events, Duration::ZERO, |_| {}).await
    {
        tracing::warn!(
            error = chain(&error),
            "a mended event is still in its queue; a router removes it"
        );
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_broker::dead_letters::{DeadLetter, Replay, replay};

    #[test]
    fn a_mended_message_is_replayed_as_a_dead_event_is() {
        let message = Message::new("{}", mend::content_type("{}"));
        let mut kept =
            reject(&message, "tasks.edit", "bad-type", "no", chrono::DateTime::UNIX_EPOCH);
        let id = Uuid::from_u128(7);
        kept.set_letter_id(id);
        let letter = DeadLetter::of_message(kept);
        let Ok(Replay::Message(queue, again)) = replay(Kind::Events, &letter) else {
            panic!("it is no message");
        };
        assert_eq!((queue, again.kept_id()), (Queue::Events, Some(id)));
    }
}
