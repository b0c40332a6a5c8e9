//! Directory documents that can't be taken in: what they take away, and the letters of those whose
//! revisions are not believed.

use fanfare_broker::Message;
use fanfare_core::directory::{Document, refused};
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
    let Some(event_type) = attribute(message, "type") else {
        return refused::in_body(routing_key, &message.body, why);
    };
    // In the binary mode of CloudEvents the body is the data alone.
    let revision = attribute(message, "accessrevision").and_then(|text| text.parse().ok());
    let data = serde_json::from_slice::<&RawValue>(&message.body).ok();
    refused::of(&event_type, revision, data, why).into_iter().collect()
}

/// An attribute that a message has as a header.
fn attribute(message: &Message, name: &str) -> Option<String> {
    ["cloudEvents:", "cloudEvents_"].iter().find_map(|prefix| {
        let name = format!("{prefix}{name}");
        let number = || message.headers.int(&name).map(|number| number.to_string());
        message.headers.text(&name).map(str::to_owned).or_else(number)
    })
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
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let entries: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    entries.get(place).map(|raw| raw.get().to_owned())
}
