//! The directory in: documents from their own queue into the database.

use std::time::Duration;

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{Destination, Incoming, Message, Queue, Session, ack_all};
use fanfare_core::directory::Document;
use fanfare_core::event::{self, CONTENT_TYPE, Entry};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::directory::Applied;
use fanfare_store::patience::{Impatient, patiently};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::refused::{entry_json, jump, taken_away, with_consequences};
use crate::taken::is_document;

/// Documents taken at a time.
const MOST: u16 = 64;
const LINGER: Duration = Duration::from_millis(1);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut consumer = session.consumer(Queue::Directory, MOST).await?;
    let next = async |consumer: &mut fanfare_broker::Consumer| {
        stop.run_until_cancelled(consumer.next_batch(usize::from(MOST), LINGER)).await
    };
    while let Some(Some(batch)) = next(&mut consumer).await {
        take(config, session, stop, batch?).await?;
    }
    Ok(consumer.cancel().await?)
}

async fn take(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    batch: Vec<Incoming>,
) -> Result<(), RouterError> {
    let mut dead = Vec::new();
    let mut reasons = Vec::new();
    let (mut all, mut sources) = (Vec::new(), Vec::new());
    for incoming in &batch {
        for found in documents_of(config, &incoming.message.body) {
            match found {
                Ok((document, place)) => {
                    all.push(document);
                    sources.push(Source { incoming, place: Some(place) });
                }
                Err((reject, raw)) => {
                    let Incoming { message, routing_key, .. } = incoming;
                    let away = taken_away(message, routing_key, &reject, raw.as_deref());
                    let reject = with_consequences(reject, &away);
                    sources.extend(away.iter().map(|_| Source { incoming, place: None }));
                    all.extend(away);
                    dead.push(letter(config, incoming, &reject, raw));
                    reasons.push(reject.reason);
                }
            }
        }
    }
    for (reject, source) in apply(config, stop, &all, &sources).await? {
        let place = source.place.unwrap_or_default();
        dead.push(letter(config, source.incoming, &reject, place.json(source.incoming)));
        reasons.push(reject.reason);
    }
    let taken = sources.iter().filter(|source| source.place.is_some()).count();
    session.publisher().publish_all(dead).await?;
    config.metrics.documents(taken);
    for reason in reasons {
        config.metrics.dead_letter(reason, 1);
    }
    ack_all(batch.into_iter().map(|incoming| incoming.settle)).await?;
    Ok(())
}

/// Where a document comes from.
struct Source<'a> {
    incoming: &'a Incoming,
    /// Its place in the message; `None` for what a refused one takes away, which has its letter.
    place: Option<Place>,
}

/// The place of a document in a message: its number in a batch.
#[derive(Clone, Copy, Default)]
struct Place(Option<usize>);

impl Place {
    /// The document's own JSON where the message has more.
    fn json(self, incoming: &Incoming) -> Option<String> {
        self.0.and_then(|place| entry_json(&incoming.message.body, place))
    }
}

/// Takes documents; returns those that the database refuses, or whose revisions are not believed.
async fn apply<'s, 'a>(
    config: &Config,
    stop: &CancellationToken,
    all: &[Document],
    sources: &'s [Source<'a>],
) -> Result<Vec<(Reject, &'s Source<'a>)>, RouterError> {
    match patiently(stop, || config.store.directory_apply(all)).await {
        Ok(applied) => {
            log_paused(&applied);
            let jumps = applied.jumps.iter();
            let letter = |place: &usize| Some((all.get(*place)?, sources.get(*place)?));
            let letters = jumps.filter_map(letter);
            Ok(letters.map(|(document, it)| (jump(document, applied.revision), it)).collect())
        }
        // One of them is to blame; the others must not suffer for it.
        Err(Impatient::Refused(_)) if all.len() > 1 => {
            let mut letters = Vec::new();
            for (document, source) in all.chunks(1).zip(sources.chunks(1)) {
                letters.extend(Box::pin(apply(config, stop, document, source)).await?);
            }
            Ok(letters)
        }
        Err(Impatient::Refused(error)) => {
            let why = error.chain();
            let away: Vec<Document> = all.iter().map(|document| document.voided(&why)).collect();
            match patiently(stop, || config.store.directory_apply(&away)).await {
                Ok(_) | Err(Impatient::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let reject = || with_consequences(Reject::new(Reason::BadData, &why), &away);
            Ok(sources.iter().filter(|it| it.place.is_some()).map(|it| (reject(), it)).collect())
        }
        Err(error) => Err(error.into()),
    }
}

/// Reports webhooks that were paused, since their owners are other persons now.
pub(crate) fn log_paused(applied: &Applied) {
    if applied.paused > 0 {
        tracing::warn!(
            webhooks = applied.paused,
            revision = applied.revision,
            "paused webhooks as owner-recreated: their owners were deleted, and the users of the same \
             names are new; `fanfare webhooks resume ID` gives one to the new user"
        );
    }
}

/// A document and its place, or what can't be taken and why.
type Found = Result<(Document, Place), (Reject, Option<String>)>;

/// The documents of a message, and what can't be taken. Events are left out: the queue
/// `fanfare.events` has every message too.
fn documents_of(config: &Config, body: &[u8]) -> Vec<Found> {
    let published = match event::parse(body, None, &config.mask) {
        Err(reject) => return vec![Err((reject, None))],
        Ok(published) => published,
    };
    let batch = published.batch;
    let document = |(place, entry)| match entry {
        Entry::Event(_) => None,
        Entry::Directory(document) => Some(Ok((*document, Place(batch.then_some(place))))),
        Entry::Rejected { reject, raw } => is_document(&raw).then_some(Err((reject, Some(raw)))),
    };
    published.entries.into_iter().enumerate().filter_map(document).collect()
}

fn letter(
    config: &Config,
    incoming: &Incoming,
    why: &Reject,
    raw: Option<String>,
) -> (Destination, Message) {
    let mut message = incoming.message.clone();
    if let Some(raw) = raw {
        message.body = raw.into();
        message.content_type = Some(CONTENT_TYPE.to_owned());
    }
    let code = why.reason.code();
    tracing::warn!(
        event.id = crate::told::event_id(&message.body),
        reason = code,
        detail = why.detail,
        "a directory document can't be taken; it is kept as a dead letter"
    );
    let now = (config.clock)();
    (Queue::EventsDead.into(), reject(&message, &incoming.routing_key, code, &why.detail, now))
}
