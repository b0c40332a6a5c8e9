//! The directory: applies the documents of its own queue to the database.

use std::time::Duration;

use fanfare_broker::{Incoming, Queue, Session, ack_all};
use fanfare_core::directory::Document;
use fanfare_core::event::{CONTENT_TYPE, Entry};
use fanfare_core::reject::{Reason, Reject};
use fanfare_failpoints::failpoint;
use fanfare_store::directory::Applied;
use fanfare_store::retry::{Answered, QueryError, retry_divisible};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Config;
use crate::error::RouterError;
use crate::inbound::{Copies, is_document, parse, set_aside, take_kept_id};
use crate::kept::{Kept, dead_letter, record, settle};
use crate::refusal::{entry_json, implausible_revision, voided, with_consequences};

/// The most documents at a time.
const MAX_BATCH: u16 = 64;
const LINGER: Duration = Duration::from_millis(1);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut consumer = session.consumer(Queue::Directory, MAX_BATCH).await?;
    let next = async |consumer: &mut fanfare_broker::Consumer| {
        stop.run_until_cancelled(consumer.next_batch(usize::from(MAX_BATCH), LINGER)).await
    };
    while let Some(Some(batch)) = next(&mut consumer).await {
        apply_batch(config, session, stop, batch?).await?;
    }
    Ok(consumer.cancel().await?)
}

async fn apply_batch(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    mut batch: Vec<Incoming>,
) -> Result<(), RouterError> {
    failpoint!(DirectoryTakes);
    let kept_ids: Vec<Option<Uuid>> = batch.iter_mut().map(take_kept_id).collect();
    let mut dead = Vec::new();
    let mut reasons = Vec::new();
    let (mut all, mut sources) = (Vec::new(), Vec::new());
    for incoming in &batch {
        for found in documents_of(config, incoming) {
            match found {
                Ok((document, position)) => {
                    all.push(document);
                    sources.push(Source { incoming, position: Some(position) });
                }
                Err((reject, raw)) => {
                    let Incoming { message, routing_key, .. } = incoming;
                    let away = voided(message, routing_key, &reject, raw.as_deref());
                    let reject = with_consequences(reject, &away);
                    sources.extend(away.iter().map(|_| Source { incoming, position: None }));
                    all.extend(away);
                    dead.push(letter(config, incoming, &reject, raw));
                    reasons.push(reject.reason);
                }
            }
        }
    }
    let Outcome { refused, failing } = apply(config, stop, &all, &sources).await?;
    failpoint!(DirectoryApplies);
    for (reject, source) in refused {
        let position = source.position.unwrap_or_default();
        dead.push(letter(config, source.incoming, &reject, position.json(source.incoming)));
        reasons.push(reject.reason);
    }
    let (aside, settled) = divided(&batch, kept_ids, &failing);
    let applied = sources.iter().filter(|source| source.position.is_some()).count();
    config.metrics.set_aside(failing.len());
    dead.extend(aside);
    session.publisher().publish_all(record(config, stop, dead).await?).await?;
    failpoint!(DirectoryPublishes);
    settle(config, stop, settled).await?;
    config.metrics.documents(applied);
    for reason in reasons {
        config.metrics.dead_letter(reason, 1);
    }
    ack_all(batch.into_iter().map(|incoming| incoming.settle)).await?;
    failpoint!(DirectoryAcknowledges);
    Ok(())
}

/// The messages to set aside, with whose documents the database fails, and the rows of the others. What
/// is set aside comes back by the queue of events, whose documents are applied, too.
fn divided(
    batch: &[Incoming],
    kept_ids: Vec<Option<Uuid>>,
    failing: &[&Incoming],
) -> (Vec<Kept>, Vec<Uuid>) {
    let (mut aside, mut settled) = (Vec::new(), Vec::new());
    for (incoming, kept_id) in batch.iter().zip(kept_ids) {
        if failing.iter().any(|it| std::ptr::eq(*it, incoming)) {
            let Incoming { message, routing_key, .. } = incoming;
            aside.push(set_aside(message, routing_key, Copies::One, kept_id));
        } else {
            settled.extend(kept_id);
        }
    }
    (aside, settled)
}

/// The origin of a document.
struct Source<'a> {
    incoming: &'a Incoming,
    /// Its position in the message; `None` for a document that voids what a refused one names, which
    /// has its dead letter.
    position: Option<Position>,
}

/// The position of a document in a message: its number in a batch.
#[derive(Clone, Copy, Default)]
struct Position(Option<usize>);

impl Position {
    /// The document's own JSON, if the message is a batch.
    fn json(self, incoming: &Incoming) -> Option<String> {
        self.0.and_then(|position| entry_json(&incoming.message.body, position))
    }
}

/// The documents that were not applied.
#[derive(Default)]
struct Outcome<'s, 'a> {
    /// Those that the database rejects, or whose revisions are not plausible.
    refused: Vec<(Reject, &'s Source<'a>)>,
    /// The messages with whose documents the database fails.
    failing: Vec<&'a Incoming>,
}

/// Applies documents, one by one if they can't be applied together.
async fn apply<'s, 'a>(
    config: &Config,
    stop: &CancellationToken,
    all: &[Document],
    sources: &'s [Source<'a>],
) -> Result<Outcome<'s, 'a>, RouterError> {
    let mut outcome = Outcome::default();
    match retry_divisible(stop, || config.store.directory_apply(all)).await {
        Ok(Answered { value: applied, .. }) => {
            note_paused(config, &applied);
            let jumps = applied.jumps.iter();
            let letter = |position: &usize| Some((all.get(*position)?, sources.get(*position)?));
            let letters = jumps.filter_map(letter);
            outcome.refused = letters
                .map(|(document, it)| (implausible_revision(document, applied.revision), it))
                .collect();
        }
        // One of the documents is the cause. The others must be applied all the same.
        Err(QueryError::Rejected(_) | QueryError::Failing(_)) if all.len() > 1 => {
            for (document, source) in all.chunks(1).zip(sources.chunks(1)) {
                let one = Box::pin(apply(config, stop, document, source)).await?;
                outcome.refused.extend(one.refused);
                for incoming in one.failing {
                    if !outcome.failing.iter().any(|it| std::ptr::eq(*it, incoming)) {
                        outcome.failing.push(incoming);
                    }
                }
            }
        }
        Err(QueryError::Rejected(error)) => {
            let why = error.chain();
            let away: Vec<Document> = all.iter().map(|document| document.voided(&why)).collect();
            match retry_divisible(stop, || config.store.directory_apply(&away)).await {
                Ok(_) | Err(QueryError::Rejected(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let reject = || with_consequences(Reject::new(Reason::BadData, &why), &away);
            let named = sources.iter().filter(|it| it.position.is_some());
            outcome.refused = named.map(|it| (reject(), it)).collect();
        }
        Err(QueryError::Failing(error)) => {
            outcome.failing = sources.iter().map(|source| source.incoming).collect();
            for incoming in &outcome.failing {
                tracing::warn!(
                    event.id = crate::event_id::event_id(&incoming.message),
                    error = error.chain(),
                    "failed to apply a directory document; it is set aside and tried again"
                );
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(outcome)
}

/// Logs and counts webhooks that were paused because their owners are other persons now.
pub(crate) fn note_paused(config: &Config, applied: &Applied) {
    config.metrics.paused(applied.paused);
    if applied.paused > 0 {
        tracing::warn!(
            webhooks = applied.paused,
            revision = applied.revision,
            "paused webhooks as owner-recreated: their owners were deleted, and the users of the same \
             names are new; `fanfare webhooks resume ID` gives one to the new user"
        );
    }
}

/// A document and its position, or a refusal with the JSON of its entry.
type Found = Result<(Document, Position), (Reject, Option<String>)>;

/// The documents and the refusals of a message. Events are left out, because the queue
/// `fanfare.events` has every message too, except for single documents that are replayed.
fn documents_of(config: &Config, incoming: &Incoming) -> Vec<Found> {
    let published = match parse(config, incoming) {
        Err(reject) => return vec![Err((reject, None))],
        Ok(published) => published,
    };
    let batch = published.batch;
    let document = |(position, entry)| match entry {
        Entry::Event(_) => None,
        Entry::Directory(document) => Some(Ok((*document, Position(batch.then_some(position))))),
        Entry::Rejected { reject, raw } => is_document(&raw).then_some(Err((reject, Some(raw)))),
    };
    published.entries.into_iter().enumerate().filter_map(document).collect()
}

fn letter(config: &Config, incoming: &Incoming, why: &Reject, raw: Option<String>) -> Kept {
    let mut message = incoming.message.clone();
    if let Some(raw) = raw {
        message.body = raw.into();
        message.content_type = Some(CONTENT_TYPE.to_owned());
    }
    tracing::warn!(
        event.id = crate::event_id::event_id(&message),
        reason = why.reason.code(),
        detail = why.detail,
        "refused a directory document; it becomes a dead letter"
    );
    let mut letter = dead_letter(&message, &incoming.routing_key, why, (config.clock)());
    if let Some(row) = &mut letter.row {
        row.may_be_kept = incoming.redelivered;
    }
    letter
}
