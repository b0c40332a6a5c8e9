//! The parsers of this crate, as the fuzzing of Fanfare calls them. Nothing else does.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::types::ShortString;

use crate::letter::DeadLetter;
use crate::message::Message;
use crate::received::Received;
use crate::wire::filter::Filter;
use crate::wire::properties::{Flaw, check, decode, salvage};
use crate::wire::room::Arrivals;
use crate::wire::{FrameMax, LARGEST_FRAME, LIBRARY_FRAME, envelope};

/// The largest frame that the protocol's library handles, in bytes.
pub const LARGEST: usize = LIBRARY_FRAME as usize;

/// What the library gets of bytes from the broker that arrive in pieces of one size.
///
/// # Errors
///
/// A frame is too large to be kept.
pub fn filtered(bytes: &[u8], piece: usize) -> Result<Vec<u8>, String> {
    let mut filter = Filter::new(FrameMax::at_most(LARGEST_FRAME), Arrivals::default());
    let mut out = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        filter.push(piece, &mut out).map_err(|error| error.to_string())?;
    }
    Ok(out)
}

/// Whether the check of properties gives the same result as the library's parser, apart from tables
/// that are nested too deeply for it.
#[must_use]
pub fn check_agrees_with_the_library(properties: &[u8]) -> bool {
    let is_readable = match check(properties) {
        Ok(()) => true,
        Err(Flaw::TooDeep) => return true,
        Err(_) => false,
    };
    parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty()) == is_readable
}

/// A message that was received with these properties, through an envelope, with its routing key and
/// a sentence about what could not be decoded.
#[must_use]
pub fn received(properties: &[u8], body: &[u8]) -> (Message, String, Option<String>) {
    let sealed = envelope::seal(None, properties);
    let stub = envelope::stub([0, 60], 0, sealed.len());
    let stub = stub.get(12..).and_then(decode).unwrap_or_default();
    let (exchange, routing_key) = (ShortString::default(), ShortString::default());
    let it = Received::read([&sealed, body].concat(), &stub, &exchange, &routing_key);
    (it.message, it.routing_key, it.unreadable)
}

/// The message that can be made of properties, whether or not all of them can be decoded.
#[must_use]
pub fn salvaged(properties: &[u8]) -> (Message, String) {
    let (found, why) = salvage(properties);
    (Message::from_delivery(Bytes::new(), &found).0, why)
}

/// A dead letter with this message, as a person sees it.
#[must_use]
pub fn dead_letter(message: &Message) -> DeadLetter {
    let headers = message.headers.to_publish();
    let properties = BasicProperties::default().with_headers(headers);
    let (exchange, routing_key) = (ShortString::default(), ShortString::default());
    DeadLetter::of(Received::read(message.body.to_vec(), &properties, &exchange, &routing_key))
}
