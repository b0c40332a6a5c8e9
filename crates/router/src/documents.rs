//! The directory in: documents from their own queue into the database.

use std::time::Duration;

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{Destination, Incoming, Message, Queue, Session, ack_all};
use fanfare_core::directory::Document;
use fanfare_core::event::{CONTENT_TYPE, Entry};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::directory::Applied;
use fanfare_store::patience::{Answered, Impatient, answered};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::refused::{entry_json, jump, taken_away, with_consequences};
use crate::taken::{Copies, is_document, parse, set_aside};

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
        for found in documents_of(config, incoming) {
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
    let Outcome { refused, failing } = apply(config, stop, &all, &sources).await?;
    for (reject, source) in refused {
        let place = source.place.unwrap_or_default();
        dead.push(letter(config, source.incoming, &reject, place.json(source.incoming)));
        reasons.push(reject.reason);
    }
    // They come back with the events, whose documents are taken, too.
    let set_aside = |it: &&Incoming| set_aside(&it.message, &it.routing_key, Copies::One);
    let aside = failing.iter().map(set_aside);
    let taken = sources.iter().filter(|source| source.place.is_some()).count();
    config.metrics.set_aside(failing.len());
    session.publisher().publish_all(dead).await?;
    session.publisher().publish_all(aside.collect()).await?;
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

/// What became of documents that were not taken.
#[derive(Default)]
struct Outcome<'s, 'a> {
    /// Those that the database refuses, or whose revisions are not believed.
    refused: Vec<(Reject, &'s Source<'a>)>,
    /// The messages of those with which the database fails.
    failing: Vec<&'a Incoming>,
}

/// Takes documents, one by one if they can't be taken together.
async fn apply<'s, 'a>(
    config: &Config,
    stop: &CancellationToken,
    all: &[Document],
    sources: &'s [Source<'a>],
) -> Result<Outcome<'s, 'a>, RouterError> {
    let mut outcome = Outcome::default();
    match answered(stop, || config.store.directory_apply(all)).await {
        Ok(Answered { value: applied, .. }) => {
            log_paused(&applied);
            let jumps = applied.jumps.iter();
            let letter = |place: &usize| Some((all.get(*place)?, sources.get(*place)?));
            let letters = jumps.filter_map(letter);
            outcome.refused =
                letters.map(|(document, it)| (jump(document, applied.revision), it)).collect();
        }
        // One of them is to blame; the others must not suffer for it.
        Err(Impatient::Refused(_) | Impatient::Failing(_)) if all.len() > 1 => {
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
        Err(Impatient::Refused(error)) => {
            let why = error.chain();
            let away: Vec<Document> = all.iter().map(|document| document.voided(&why)).collect();
            match answered(stop, || config.store.directory_apply(&away)).await {
                Ok(_) | Err(Impatient::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let reject = || with_consequences(Reject::new(Reason::BadData, &why), &away);
            let named = sources.iter().filter(|it| it.place.is_some());
            outcome.refused = named.map(|it| (reject(), it)).collect();
        }
        Err(Impatient::Failing(error)) => {
            outcome.failing = sources.iter().map(|source| source.incoming).collect();
            for incoming in &outcome.failing {
                tracing::warn!(
                    event.id = crate::told::event_id(&incoming.message),
                    error = error.chain(),
                    "a directory document can't be applied; it is set aside and tried again"
                );
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(outcome)
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
/// `fanfare.events` has every message too, but for single documents that are replayed.
fn documents_of(config: &Config, incoming: &Incoming) -> Vec<Found> {
    let published = match parse(config, incoming) {
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
        event.id = crate::told::event_id(&message),
        reason = code,
        detail = why.detail,
        "a directory document can't be taken; it is kept as a dead letter"
    );
    let now = (config.clock)();
    (Queue::EventsDead.into(), reject(&message, &incoming.routing_key, code, &why.detail, now))
}
