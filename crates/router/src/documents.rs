//! The directory in: documents from their own queue into the database.

use std::time::Duration;

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{Destination, Incoming, Message, Queue, Session, ack_all};
use fanfare_core::directory::Document;
use fanfare_core::event::{self, CONTENT_TYPE, Entry};
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::patience::{Impatient, answered};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::taken::{is_document, set_aside};

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
    let mut documents = Vec::new();
    for incoming in &batch {
        for found in documents_of(config, &incoming.message.body) {
            match found {
                Ok(document) => documents.push((incoming, document)),
                Err((reject, raw)) => {
                    dead.push(letter(config, incoming, &reject, raw));
                    reasons.push(reject.reason);
                }
            }
        }
    }
    let all: Vec<Document> = documents.iter().map(|(_, document)| document.clone()).collect();
    let mut aside = Vec::new();
    if let Err(error) = answered(stop, || config.store.directory_apply(&all)).await {
        let (Impatient::Refused(_) | Impatient::Failing(_)) = error else {
            return Err(error.into());
        };
        // One of them is to blame; the others must not suffer for it.
        for (incoming, document) in &documents {
            let one = std::slice::from_ref(document);
            match answered(stop, || config.store.directory_apply(one)).await {
                Ok(_) => {}
                Err(Impatient::Refused(error)) => {
                    let reject = Reject::new(Reason::BadData, error.chain());
                    dead.push(letter(config, incoming, &reject, None));
                    reasons.push(reject.reason);
                }
                Err(Impatient::Failing(error)) => {
                    tracing::warn!(
                        event.id = crate::told::event_id(&incoming.message.body),
                        error = error.chain(),
                        "a directory document can't be applied; it is set aside and tried again"
                    );
                    // It comes back with the events, whose documents are taken, too.
                    aside.push(set_aside(&incoming.message, &incoming.routing_key));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    config.metrics.set_aside(aside.len());
    session.publisher().publish_all(dead).await?;
    session.publisher().publish_all(aside).await?;
    config.metrics.documents(documents.len());
    for reason in reasons {
        config.metrics.dead_letter(reason, 1);
    }
    ack_all(batch.into_iter().map(|incoming| incoming.settle)).await?;
    Ok(())
}

/// The documents of a message, and what can't be taken. Events are left out: the queue
/// `fanfare.events` has every message too.
fn documents_of(config: &Config, body: &[u8]) -> Vec<Result<Document, (Reject, Option<String>)>> {
    let entries = match event::parse(body, None, &config.mask) {
        Err(reject) => return vec![Err((reject, None))],
        Ok(published) => published.entries,
    };
    let document = |entry| match entry {
        Entry::Event(_) => None,
        Entry::Directory(document) => Some(Ok(*document)),
        Entry::Rejected { reject, raw } => is_document(&raw).then_some(Err((reject, Some(raw)))),
    };
    entries.into_iter().filter_map(document).collect()
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
