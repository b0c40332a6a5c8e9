//! The correction of a dead event by a person: its text is checked as a router parses it, and what was
//! masked when it was stored must not be published in its masked form.

use sha2::{Digest as _, Sha256};

use crate::event::{BATCH_CONTENT_TYPE, CONTENT_TYPE, Entry, Event, EventMessage, parse_message};
use crate::mask::{MASK, MaskPolicy};

/// Stands for what a mask hides, to find out whether a router masks it again. It is no number and has no
/// character that ends a value of a connection string.
const PROBE: &str = "fanfareMaskedValue";

/// The code of a mended text that is a document of the directory.
const DIRECTORY: &str = "directory-document";
/// The code of a mended text that lacks values that were masked.
const MASKED: &str = "masked";
/// The code of a batch without an event.
const EMPTY: &str = "empty";

/// Why a text can't be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The position of the event in its batch, from zero; `None` for a single event, and for the text as
    /// a whole.
    pub position: Option<usize>,
    /// A stable code: a reason for which routers refuse events, or `directory-document`, `masked` or
    /// `empty`.
    pub code: &'static str,
    /// One sentence for a person. It names the line and the column of what is not JSON.
    pub detail: String,
}

/// The content type with which a text is published: that of a batch if it is an array.
#[must_use]
pub fn content_type(text: &str) -> &'static str {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('[') { BATCH_CONTENT_TYPE } else { CONTENT_TYPE }
}

/// Checks a mended message with the parser of routers, and returns its events. With `is_masked`, values
/// of the original were masked before it was stored.
///
/// # Errors
///
/// Everything that is wrong, at least one fault. Every event of a batch has to be valid.
pub fn check(
    message: &EventMessage<'_>,
    mask: &MaskPolicy,
    is_masked: bool,
) -> Result<Vec<Event>, Vec<Fault>> {
    let fault = |position, code, detail: String| Fault { position, code, detail };
    let published = parse_message(message, mask)
        .map_err(|reject| vec![fault(None, reject.reason.code(), reject.detail)])?;
    let (mut events, mut faults) = (Vec::new(), Vec::new());
    for (position, entry) in published.entries.into_iter().enumerate() {
        let position = published.batch.then_some(position);
        match entry {
            Entry::Event(event) => events.push(*event),
            Entry::Directory(_) => faults.push(fault(
                position,
                DIRECTORY,
                "this is a document of the directory, which only its publisher may change; have it \
                 published again, or import the directory"
                    .to_owned(),
            )),
            Entry::Rejected { reject, .. } => {
                faults.push(fault(position, reject.reason.code(), reject.detail));
            }
        }
    }
    if events.is_empty() && faults.is_empty() {
        faults.push(fault(None, EMPTY, "the batch has no event".to_owned()));
    }
    if faults.is_empty() && is_masked && publishes_masked(message, mask) {
        faults.push(fault(
            None,
            MASKED,
            "values of this event were masked when it was stored, and receivers would get *** in their \
             place; write the values themselves, or have the event published again by its publisher"
                .to_owned(),
        ));
    }
    if faults.is_empty() { Ok(events) } else { Err(faults) }
}

/// Whether a notification would have `***` where no router masks anything.
fn publishes_masked(message: &EventMessage<'_>, mask: &MaskPolicy) -> bool {
    let text = String::from_utf8_lossy(message.body);
    if !text.contains(MASK) {
        return false;
    }
    let probed = text.replace(MASK, PROBE);
    let message = EventMessage { body: probed.as_bytes(), ..message.clone() };
    // A text that is only valid with its masks says nothing about them.
    let Ok(published) = parse_message(&message, mask) else { return true };
    published.entries.iter().any(|entry| match entry {
        Entry::Event(event) => event.notification.contains(PROBE),
        Entry::Directory(_) | Entry::Rejected { .. } => true,
    })
}

/// The digest of a body, for the audit trail: `sha256:` and 64 hex digits.
#[must_use]
pub fn digest(body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(body) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"{event_type}",
                "subject":"connections/c1","data":{data}}}"#
        )
    }

    fn faults(text: &str, is_masked: bool) -> Vec<(Option<usize>, &'static str)> {
        let message = EventMessage {
            body: text.as_bytes(),
            content_type: Some(content_type(text)),
            ..EventMessage::default()
        };
        let checked = check(&message, &MaskPolicy::default(), is_masked);
        let faults = checked.err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.position, fault.code)).collect()
    }

    #[test]
    fn every_fault_has_its_place() {
        let (good, bad) = (event("connections.edit", "{}"), event("galaxies.edit", "{}"));
        assert_eq!(faults(&good, false), []);
        assert_eq!(faults(&bad, false), [(None, "unknown-filter")]);
        assert_eq!(faults("{ oops", false), [(None, "not-json")]);
        assert_eq!(
            faults(&format!("[{good},{bad},7]"), false),
            [(Some(1), "unknown-filter"), (Some(2), "not-cloudevents"),]
        );
        assert_eq!(faults("[]", false), [(None, "empty")]);
        let document = r#"{"specversion":"1.0","type":"directory.user","accessrevision":3,
            "data":{"name":"anna","enabled":true}}"#;
        assert_eq!(faults(document, false), [(None, "directory-document")]);
    }

    #[test]
    fn a_mask_may_stay_only_where_routers_mask_again() {
        let again = event("connections.edit", r#"{"C":"Server=a;Password=***"}"#);
        assert_eq!(faults(&again, true), []);
        let shown = event("connections.edit", r#"{"Name":"***"}"#);
        assert_eq!(faults(&shown, true), [(None, "masked")]);
        // It was published so.
        assert_eq!(faults(&shown, false), []);
    }

    #[test]
    fn digests_are_those_of_other_tools() {
        // By sha256sum of an empty file.
        assert_eq!(
            digest(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
