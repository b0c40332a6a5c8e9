//! What the broker sends: frames, properties and dead letters, as any of its clients published them.

use chrono::DateTime;
use fanfare_broker::Message;
use fanfare_broker::dead_letters::{DeadLetter, reject};
use fanfare_broker::fuzzing::{
    LARGEST, check_agrees_with_the_library, dead_letter, filtered, received, salvaged,
};

use super::check_sentence;
use crate::Target;
use crate::input::Input;

pub(super) const FRAMES: Target = Target {
    name: "frames",
    about: "the bytes of a connection to the broker: in pieces of any size the same comes out, in \
            frames that the library can handle, and not much more than came in",
    check: frames,
};

pub(super) const PROPERTIES: Target = Target {
    name: "properties",
    about: "the properties and headers of a message: they are readable exactly if the library \
            decodes them, and a dead letter of them is the same message again",
    check: properties,
};

/// The size of the pieces, and frames.
fn frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = usize::from(input.byte()) + 1;
    let bytes = input.rest();
    match (filtered(bytes, usize::MAX), filtered(bytes, piece)) {
        (Ok(whole), Ok(in_pieces)) => {
            assert_eq!(joined(&whole), joined(&in_pieces));
            // A header becomes a stub of 54 bytes, and each byte of a body may be a frame.
            let most = 12 * bytes.len() + 64;
            assert!(whole.len().max(in_pieces.len()) <= most, "{} of {most}", in_pieces.len());
        }
        (Err(error), Err(other)) => {
            assert_eq!(error, other);
            check_sentence(&error);
        }
        other => panic!("{other:?}"),
    }
}

const HEADER: u8 = 2;
const BODY: u8 = 3;
/// The first byte of the greeting of another version, which has eight bytes and no frame.
const GREETING: u8 = b'A';

/// The frames in these bytes, each with its kind and channel. Adjacent parts of a body are joined,
/// because a large body is split wherever bytes have arrived. What the library can't handle is split.
fn joined(mut out: &[u8]) -> Vec<([u8; 3], Vec<u8>)> {
    let mut frames: Vec<([u8; 3], Vec<u8>)> = Vec::new();
    while let [kind, c1, c2, a, b, c, d, rest @ ..] = out {
        let is_greeting = *kind == GREETING;
        let size = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let size = if is_greeting { 0 } else { size };
        let (payload, after) = rest.split_at(size.min(rest.len()));
        assert!(!matches!(*kind, HEADER | BODY) || size.saturating_add(8) <= LARGEST, "{size}");
        let head = [*kind, *c1, *c2];
        match frames.last_mut() {
            Some((last, body)) if *kind == BODY && *last == head => body.extend(payload),
            _ => frames.push((head, payload.to_vec())),
        }
        out = after.get(1..).unwrap_or_default();
    }
    frames.push(([0; 3], out.to_vec()));
    frames
}

fn properties(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let length = usize::from(input.byte()) << 4;
    let rest = input.rest();
    let (properties, body) = rest.split_at(length.min(rest.len()));
    assert!(check_agrees_with_the_library(properties));
    let (message, routing_key, unreadable) = received(properties, body);
    assert_eq!(message.body, body);
    assert_eq!(routing_key, "");
    if let Some(why) = unreadable {
        check_sentence(&why);
        let (salvaged, why) = salvaged(properties);
        assert_eq!(salvaged.message_id, message.message_id);
        check_sentence(&why);
    }
    let event = message.as_event();
    let _ = (event.id(), event.is_directory_document());
    check_letter(&message);
}

/// A message that became a dead letter can be taken out again as it was.
fn check_letter(message: &Message) {
    let letter = reject(message, "a.b", "bad-data", "why", DateTime::UNIX_EPOCH);
    let letter = dead_letter(&letter);
    check(&letter);
    assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("bad-data", "why"));
    let original = letter.original();
    assert_eq!(original.body, message.body);
    // Any message may be in a queue of dead letters.
    let stranger = dead_letter(message);
    check(&stranger);
    assert_eq!(dead_letter(message).id, stranger.id);
}

fn check(letter: &DeadLetter) {
    assert!((1..=64).contains(&letter.id.len()) && letter.id.is_ascii());
    assert!(letter.reason.len() <= 255 && letter.detail.len() <= 2048);
    assert!(letter.routing_key.len() <= 255);
    let is_time = |at: &String| DateTime::parse_from_rfc3339(at).is_ok();
    assert!(letter.dead_at.as_ref().is_none_or(is_time));
}
