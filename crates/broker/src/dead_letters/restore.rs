//! Puts dead letters back that their queue has lost, from where else they are kept.

use std::collections::HashSet;

use uuid::Uuid;

use super::walk::Walk;
use crate::error::{BrokerError, PublishError};
use crate::message::Message;
use crate::session::Session;
use crate::topology::Queue;

/// A dead letter as it is kept outside of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedLetter {
    /// Its id.
    pub id: Uuid,
    /// Its [encoded properties](Message::encode_properties).
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

impl EncodedLetter {
    /// The dead letter; `None` if its properties can't be decoded.
    #[must_use]
    pub fn decode(self) -> Option<Message> {
        let mut message = Message::from_encoded(&self.properties, self.body)?;
        message.set_letter_id(self.id);
        Some(message)
    }
}

/// Publishes those of the kept letters to their queue that it does not have, and returns how many. With
/// `dry_run` they are only counted. `page_after` returns kept letters with ids above the given one, in
/// the order of their ids, and none at the end.
///
/// The queue is read once, before the first page. A letter that comes into it meanwhile may then be
/// there twice: both have the same id, and are replayed or discarded together.
///
/// # Errors
///
/// Those of `page_after`, and the connection's. Some of the letters may be in the queue.
pub async fn restore<E: From<BrokerError> + From<PublishError>>(
    session: &Session,
    queue: Queue,
    dry_run: bool,
    mut page_after: impl AsyncFnMut(Uuid) -> Result<Vec<EncodedLetter>, E>,
) -> Result<u64, E> {
    let in_queue = ids(session, queue).await?;
    let (mut count, mut last) = (0, Uuid::nil());
    loop {
        let page = page_after(last).await?;
        let Some(end) = page.last() else { return Ok(count) };
        last = end.id;
        let missing = page.into_iter().filter(|letter| !in_queue.contains(&letter.id));
        let letters: Vec<_> = missing
            .filter_map(EncodedLetter::decode)
            .map(|letter| (queue.into(), letter))
            .collect();
        count += u64::try_from(letters.len()).unwrap_or(u64::MAX);
        if !dry_run {
            session.publisher().publish_all(letters).await?;
        }
    }
}

/// The ids of the letters that a queue has.
async fn ids(session: &Session, queue: Queue) -> Result<HashSet<Uuid>, BrokerError> {
    let mut walk = Walk::begin(session, queue).await?;
    let mut ids = HashSet::new();
    while let Some(letter) = walk.next().await? {
        ids.extend(letter.kept_id());
    }
    walk.end().await?;
    Ok(ids)
}
