//! The form in which a message passes through the library if the library can't handle its header
//! frame.
//!
//! The stub's only property is one header, [`MARK`], whose value says how many bytes of the body
//! are the envelope: names of the delivery that are not UTF-8, if there are any, and the properties
//! as they were. A message that another program published with that header is put into an envelope
//! too, so that the mark is always Fanfare's own.

use super::properties::{Flaw, Reader};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// The name of the stub's header.
pub(crate) const MARK: &str = "x-fanfare-envelope";

/// The name of the only header of a message whose body was left out. It begins with [`MARK`], so a
/// message that another program published with it is put into an envelope too.
const LEFT_OUT: &str = "x-fanfare-envelope-left-out";

/// Exchange and routing key of a delivery, when one of them is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) exchange: Vec<u8>,
    pub(crate) routing_key: Vec<u8>,
}

/// The content of an envelope, and the body behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) names: Option<Names>,
    pub(crate) properties: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// An envelope for the start of the body.
pub(crate) fn seal(names: Option<&Names>, properties: &[u8]) -> Vec<u8> {
    let mut sealed = vec![u8::from(names.is_some())];
    if let Some(names) = names {
        for name in [&names.exchange, &names.routing_key] {
            sealed.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            sealed.extend(name.iter().take(usize::from(u8::MAX)));
        }
    }
    sealed.extend_from_slice(properties);
    sealed
}

/// The payload of the stub's header frame.
pub(crate) fn stub(class: [u8; 2], body_size: u64, envelope: usize) -> Vec<u8> {
    let envelope = u64::try_from(envelope).unwrap_or(u64::MAX);
    header_frame(class, body_size.saturating_add(envelope), MARK, envelope)
}

/// The payload of the header frame of a message whose body, of `left_out` bytes, is left out.
pub(crate) fn without_body(class: [u8; 2], left_out: u64) -> Vec<u8> {
    header_frame(class, 0, LEFT_OUT, left_out)
}

/// A header frame's payload with one header, which is a number.
fn header_frame(class: [u8; 2], body_size: u64, name: &str, value: u64) -> Vec<u8> {
    let mut payload = class.to_vec();
    payload.extend([0, 0]);
    payload.extend(body_size.to_be_bytes());
    // The flag of the headers, and their table with the one entry: a signed number of 8 bytes.
    payload.extend(0x2000_u16.to_be_bytes());
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    payload.extend((u32::from(length) + 10).to_be_bytes());
    payload.push(length);
    payload.extend(name.as_bytes());
    payload.push(b'l');
    payload.extend(i64::try_from(value).unwrap_or(i64::MAX).to_be_bytes());
    payload
}

/// The size of the body in bytes, if it was left out.
pub(crate) fn left_out(properties: &BasicProperties) -> Option<u64> {
    number(properties, LEFT_OUT)
}

fn number(properties: &BasicProperties, name: &str) -> Option<u64> {
    let headers = properties.headers().as_ref()?.inner();
    let Some(AMQPValue::LongLongInt(value)) = headers.get(name) else { return None };
    u64::try_from(*value).ok()
}

/// Whether bytes may be properties with the mark.
pub(crate) fn has_mark(properties: &[u8]) -> bool {
    properties.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

/// Opens the envelope of a message that has one.
pub(crate) fn open<'a>(properties: &BasicProperties, body: &'a [u8]) -> Option<Opened<'a>> {
    let size = usize::try_from(number(properties, MARK)?).ok()?;
    let (envelope, body) = body.split_at_checked(size)?;
    let mut reader = Reader(envelope);
    let names = names(&mut reader).ok()?;
    Some(Opened { names, properties: reader.0, body })
}

fn names(reader: &mut Reader<'_>) -> Result<Option<Names>, Flaw> {
    if reader.octet()? == 0 {
        return Ok(None);
    }
    let exchange = reader.short()?.to_vec();
    Ok(Some(Names { exchange, routing_key: reader.short()?.to_vec() }))
}
