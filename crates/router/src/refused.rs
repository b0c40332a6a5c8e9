//! Directory documents that can't be taken in: what they take away, and the letters of those whose
//! revisions are not believed.

use fanfare_broker::Message;
use fanfare_core::directory::{Document, refused};
use fanfare_core::json::without_byte_order_mark;
use fanfare_core::reject::{Reason, Reject};
use serde_json::value::RawValue;

/// What a refused message, or a refused entry of it, takes away.
pub(crate) fn taken_away(
    message: &Message,
    routing_key: &str,
    reject: &Reject,
    raw: Option<&str>,
) -> Vec<Document> {
    let why = &reject.detail;
    if let Some(raw) = raw {
        let entry = serde_json::from_str::<&RawValue>(raw).ok();
        return entry.and_then(|entry| refused::in_entry("", entry, why)).into_iter().collect();
    }
    refused::in_message(&message.as_event(), routing_key, why)
}

/// The refusal, with what follows from it.
pub(crate) fn with_consequences(reject: Reject, taken_away: &[Document]) -> Reject {
    let mut detail = reject.detail;
    for document in taken_away {
        detail.push_str("; ");
        detail.push_str(&document.consequence());
    }
    Reject { detail, ..reject }
}

/// The refusal of a document whose revision is not believed.
pub(crate) fn jump(document: &Document, newest: i64) -> Reject {
    let revision = document.revision;
    let detail = format!(
        "the revision {revision} is too far ahead of the newest one, {newest}; if it is right, run \
         `fanfare directory accept-revision {revision}`, then `fanfare dead-letters replay --reason \
         revision-jump`; if not, have the document published again with the right one"
    );
    Reject::new(Reason::RevisionJump, detail)
}

/// An entry of a batch as it was published.
pub(crate) fn entry_json(body: &[u8], place: usize) -> Option<String> {
    let entries: Vec<&RawValue> = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    entries.get(place).map(|raw| raw.get().to_owned())
}
