//! Formats dead letters for people.

use fanfare_app::clock::rfc3339;
use fanfare_app::dead_letters::Shown;
use fanfare_broker::dead_letters::DeadLetter;
use fanfare_core::dead_letter::Letter;

use crate::output::plain;
use crate::table::or_dash;

/// The headings of a list.
pub(super) const HEADINGS: [&str; 7] =
    ["ID", "QUEUE", "DEAD SINCE", "REASON", "WEBHOOK", "EVENT", "DETAIL"];

/// The row of a dead letter in a list.
pub(super) fn row(letter: &Letter) -> [String; HEADINGS.len()] {
    [
        letter.id.clone(),
        letter.kind.name().to_owned(),
        rfc3339(letter.died_at),
        letter.reason.clone(),
        or_dash(letter.webhook),
        or_dash(letter.event.as_ref()),
        letter.detail.clone(),
    ]
}

/// All properties of a dead letter.
pub(super) fn facts(shown: &Shown) -> Vec<(&'static str, String)> {
    let Shown { letter, message } = shown;
    vec![
        ("Id", letter.id.clone()),
        ("Queue", letter.kind.name().to_owned()),
        ("Reason", letter.reason.clone()),
        ("Detail", letter.detail.clone()),
        ("Error", or_dash(letter.error.as_ref())),
        ("Dead since", rfc3339(letter.died_at)),
        ("Webhook", or_dash(letter.webhook)),
        ("Owner", or_dash(letter.owner.as_ref())),
        ("Event", or_dash(letter.event.as_ref())),
        ("Attempts", or_dash(letter.attempts)),
        ("Last status", or_dash(letter.last_status)),
        ("Routing key", message.routing_key.clone()),
        ("Content type", or_dash(message.message.content_type.as_ref())),
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
