//! Formats dead letters for people.

use fanfare_broker::dead_letters::{DeadLetter, Kind};

use crate::output::plain;
use crate::table::or_dash;

/// The headings of a list.
pub(super) const HEADINGS: [&str; 7] =
    ["ID", "QUEUE", "DEAD SINCE", "REASON", "WEBHOOK", "EVENT", "DETAIL"];

/// The row of a dead letter in a list.
pub(super) fn row(kind: Kind, letter: &DeadLetter) -> [String; HEADINGS.len()] {
    [
        letter.id.clone(),
        kind.name().to_owned(),
        or_dash(letter.dead_at.as_ref()),
        letter.reason.clone(),
        or_dash(letter.webhook(kind)),
        or_dash(letter.event(kind)),
        letter.detail.clone(),
    ]
}

/// All properties of a dead letter.
pub(super) fn facts(kind: Kind, letter: &DeadLetter) -> Vec<(&'static str, String)> {
    vec![
        ("Id", letter.id.clone()),
        ("Queue", kind.name().to_owned()),
        ("Reason", letter.reason.clone()),
        ("Detail", letter.detail.clone()),
        ("Dead since", or_dash(letter.dead_at.as_ref())),
        ("Webhook", or_dash(letter.webhook(kind))),
        ("Owner", or_dash(letter.owner(kind))),
        ("Event", or_dash(letter.event(kind))),
        ("Attempts", or_dash(letter.attempts(kind))),
        ("Last status", or_dash(letter.last_status(kind))),
        ("Routing key", letter.routing_key.clone()),
        ("Content type", or_dash(letter.message.content_type.as_ref())),
    ]
}

/// The message's body, with control characters escaped.
pub(super) fn body_text(letter: &DeadLetter) -> String {
    let text = String::from_utf8_lossy(&letter.message.body);
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_broker::Message;

    #[test]
    fn control_characters_of_a_body_are_escaped() {
        let letter = DeadLetter {
            id: "l1".to_owned(),
            reason: "unknown-filter".to_owned(),
            detail: String::new(),
            dead_at: None,
            routing_key: "galaxies.create".to_owned(),
            message: Message::new("oops\u{1b}", "application/cloudevents+json"),
        };
        assert_eq!(body_text(&letter), "oops\\u{1b}");
    }
}
