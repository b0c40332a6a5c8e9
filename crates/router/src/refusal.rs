//! Refused directory documents: what they void in the directory, and the reason for those whose
//! revision is not plausible.

use fanfare_broker::Message;
pub(crate) use fanfare_core::directory::refused::with_consequences;
use fanfare_core::directory::{Document, refused};
use fanfare_core::json::without_byte_order_mark;
use fanfare_core::reject::{Reason, Reject};
use serde_json::value::RawValue;

/// The documents that void what a refused message, or a refused entry of it, names.
pub(crate) fn voided(
    message: &Message,
    routing_key: &str,
    reject: &Reject,
    raw: Option<&str>,
) -> Vec<Document> {
    refused::of_refusal(&message.as_event(), routing_key, reject, raw)
}

/// The refusal of a document whose revision is not plausible.
pub(crate) fn implausible_revision(document: &Document, newest: i64) -> Reject {
    let revision = document.revision;
    let detail = format!(
        "the revision {revision} is too far ahead of the newest one, {newest}; if it is right, run \
         `fanfare directory accept-revision {revision}`, then `fanfare dead-letters replay --reason \
         revision-jump`; if not, have the document published again with the right one"
    );
    Reject::new(Reason::RevisionJump, detail)
}

/// An entry of a batch as it was published.
pub(crate) fn entry_json(body: &[u8], position: usize) -> Option<String> {
    let entries: Vec<&RawValue> = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    entries.get(position).map(|raw| raw.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::directory::Content;

    #[test]
    fn the_advice_about_an_implausible_revision_names_the_reason_of_its_dead_letter() {
        let content = Content::RefusedSnapshot { why: String::new() };
        let reject = implausible_revision(&Document { revision: i64::MAX, content }, 1);
        let option = format!("--reason {}`", reject.reason.code());
        assert!(reject.detail.contains(&option), "{}", reject.detail);
        assert!(!reject.detail.ends_with('…'), "{}", reject.detail);
    }
}
