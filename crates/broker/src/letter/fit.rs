//! Dead letters that can be published: headers that do not fit in a frame are left out, and, as a
//! last resort, everything that the broker may refuse.

use super::{
    ATTEMPTS, BATCH, DEAD_AT, DELIVERY, DETAIL, ID, LAST_STATUS, REASON, ROUTING_KEY, WEBHOOK,
};
use crate::ladder::BackTo;
use crate::message::{Destination, Headers, Message, Properties};
use crate::topology::Queue;
use chrono::{DateTime, Utc};
use fanfare_core::reject::Reason;
use std::time::SystemTime;

/// Fanfare's own headers of a letter, all of them short.
const OWN: [&str; 10] =
    [REASON, DETAIL, ROUTING_KEY, DEAD_AT, ID, WEBHOOK, ATTEMPTS, LAST_STATUS, DELIVERY, BATCH];

/// A detail states the number of headers that were left out, and names this many of them.
const NAMED: usize = 3;
const LONGEST_NAME: usize = 40;

/// Leaves out the largest headers of a message until its properties take at most `limit` bytes. The
/// detail names them.
pub(crate) fn fit(mut message: Message, limit: usize) -> Message {
    let size = message.properties_size();
    if size <= limit {
        return message;
    }
    // The detail becomes longer by a sentence.
    let mut over = size + NAMED * LONGEST_NAME + 100 - limit;
    let mut headers: Vec<(String, usize)> = message
        .headers
        .sizes()
        .filter(|(name, _)| !OWN.contains(name))
        .map(|(name, size)| (name.to_owned(), size))
        .collect();
    headers.sort_by_key(|(_, size)| *size);
    let mut left_out = Vec::new();
    while over > 0 {
        let Some((name, size)) = headers.pop() else { break };
        message.headers.remove(&name);
        over = over.saturating_sub(size);
        left_out.push(name);
    }
    note(&mut message, &left_out);
    message
}

fn note(message: &mut Message, left_out: &[String]) {
    let names = left_out.iter().take(NAMED).map(|name| super::cut(name, LONGEST_NAME));
    let names = names.collect::<Vec<_>>().join(", ");
    let more = match left_out.len() {
        0..=NAMED => String::new(),
        count => format!(" and {} more", count - NAMED),
    };
    let detail = message.headers.text(DETAIL).unwrap_or_default();
    let detail = format!("{detail} (left out, because they are too large: {names}{more})");
    message.headers.set(DETAIL, detail.trim_start());
}

/// The letter with nothing but its body and Fanfare's own headers.
pub(crate) fn bare(message: &Message, why: &str) -> Message {
    let mut headers = Headers::default();
    for (name, value) in message.headers.iter() {
        if let Some(own) = OWN.iter().find(|own| **own == name) {
            headers.set(own, value);
        }
    }
    let detail = message.headers.text(DETAIL).unwrap_or_default();
    let detail =
        format!("{detail} (left out: headers and properties, which the broker refused: {why})");
    headers.set(DETAIL, super::cut(detail.trim_start(), super::LONGEST_DETAIL));
    let content_type = message.content_type.clone();
    let (message_id, properties) = (None, Properties::default());
    Message { body: message.body.clone(), content_type, message_id, headers, properties }
}

/// The replacement of a message that can't be published: no other message may fail with it. `None`
/// for Fanfare's own messages.
pub(crate) fn instead(
    destination: &Destination,
    message: &Message,
    why: &str,
) -> Option<(Destination, Message)> {
    match destination {
        Destination::Queue(Queue::EventsDead | Queue::DeliveriesDead) => {
            Some((destination.clone(), bare(message, why)))
        }
        Destination::Later { back_to: BackTo::Events, .. } => {
            let key = message.headers.text(ROUTING_KEY).unwrap_or_default();
            let detail = format!("the event can't wait for its directory revision: {why}");
            let code = Reason::TooLarge.code();
            let now = DateTime::<Utc>::from(SystemTime::now());
            let mut letter = super::reject(message, key, code, &detail, now);
            if let Some(id) = message.kept_id() {
                letter.set_letter_id(id);
            }
            Some((Queue::EventsDead.into(), letter))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::reject;

    const LIMIT: usize = 100_000;

    #[test]
    fn the_largest_headers_are_left_out_and_named() {
        let mut original = Message::default();
        original.headers.set("huge", "x".repeat(LIMIT)).set("small", "y");
        original.headers.set("larger", "z".repeat(LIMIT / 2));
        let letter = reject(&original, "", "too-large", "why", DateTime::UNIX_EPOCH);
        let letter = fit(letter, LIMIT);
        assert!(letter.properties_size() <= LIMIT);
        assert_eq!(letter.headers.text("huge"), None);
        assert_eq!(letter.headers.text("small"), Some("y"));
        assert!(letter.headers.text("larger").is_some());
        let detail = letter.headers.text(DETAIL).unwrap();
        assert_eq!(detail, "why (left out, because they are too large: huge)");
    }

    #[test]
    fn a_message_that_fits_is_unchanged() {
        let mut original = Message::default();
        original.headers.set("large", "x".repeat(LIMIT - 1000));
        assert_eq!(fit(original.clone(), LIMIT), original);
    }

    #[test]
    fn headers_of_another_program_are_left_out_until_the_message_fits() {
        const NAMES: [&str; 4] = ["x-fanfare-a", "x-fanfare-b", "x-fanfare-event", "c"];
        let mut original = Message::default();
        for name in NAMES {
            original.headers.set(name, "x".repeat(3000));
        }
        let letter = reject(&original, "", "bad-data", "", DateTime::UNIX_EPOCH);
        let letter = fit(letter, 4000);
        assert!(letter.properties_size() <= 4000, "{}", letter.properties_size());
        assert_eq!(letter.headers.text(REASON), Some("bad-data"));
    }
}
