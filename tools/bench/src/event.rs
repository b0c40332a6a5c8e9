//! The events of the benchmark, and reading their stamp from a notification.
//!
//! The first two keys of an event's data are its number and the time when it was published. Fanfare
//! keeps the order of the data, so the sink finds both near the beginning of a POST's body.

use std::fmt::Write as _;

/// The number of an event, and the time when it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// From 0, each number once in an installation.
    pub(crate) number: u64,
    /// Nanoseconds since 1970.
    pub(crate) sent: u64,
}

const NUMBER: &[u8] = b"\"N\":";
const SENT: &[u8] = b",\"T\":";

/// The number of bytes at the beginning of a body that contain the stamp.
pub(crate) const HEAD: usize = 512;

/// The data of an event: `size` bytes of JSON, or more if its two numbers need more.
pub(crate) fn data(stamp: Stamp, size: usize) -> String {
    let mut data = String::with_capacity(size);
    // Writing to a String does not fail.
    let _ = write!(data, r#"{{"N":{},"T":{},"Text":""#, stamp.number, stamp.sent);
    let missing = size.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', missing));
    data.push_str("\"}");
    data
}

/// The notification of an event about a task.
pub(crate) fn notification(stamp: Stamp, size: usize) -> String {
    let data = data(stamp, size);
    let rest = data.strip_prefix('{').unwrap_or(&data);
    format!(r#"{{"Action":"tasks","UserAction":"execute",{rest}"#)
}

/// An event as the report server publishes it, its data `size` bytes long.
pub(crate) fn event(
    event_type: &str,
    subject: &str,
    source: &str,
    stamp: Stamp,
    size: usize,
) -> String {
    let (number, data) = (stamp.number, data(stamp, size));
    format!(
        r#"{{"specversion":"1.0","id":"{number}","source":"{source}","type":"{event_type}","subject":"{subject}","data":{data}}}"#
    )
}

/// The stamp of the first notification in a POST's body. The beginning of the body is enough.
pub(crate) fn stamp(body: &[u8]) -> Option<Stamp> {
    let body = body.get(..HEAD).unwrap_or(body);
    let (number, rest) = digits(after(body, NUMBER)?)?;
    let (sent, _) = digits(rest.strip_prefix(SENT)?)?;
    Some(Stamp { number, sent })
}

fn after<'a>(bytes: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(what.len()).position(|window| window == what)?;
    bytes.get(at + what.len()..)
}

fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(length);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_the_body_of_an_event() {
        let stamped = Stamp { number: 7, sent: 1_700_000_000_123_456_789 };
        assert_eq!(data(stamped, 400).len(), 400);
        let event = event("tasks.execute", "tasks/t1", "/bench", stamped, 400);
        let published = fanfare_core::event::parse(
            event.as_bytes(),
            None,
            &fanfare_core::mask::MaskPolicy::off(),
        );
        let entries = published.unwrap().entries;
        let Some(fanfare_core::event::Entry::Event(event)) = entries.first() else {
            panic!("it is an event");
        };
        assert_eq!(event.notification, notification(stamped, 400));
        let id = fanfare_core::ids::DeliveryId(uuid::Uuid::max());
        let properties = fanfare_core::webhook::Properties::default();
        let body =
            fanfare_core::notification::render(id, 1, &properties, [event.notification.as_str()]);
        assert_eq!(stamp(body.as_bytes()), Some(stamped));
        assert_eq!(stamp(b"{\"N\":1}"), None);
    }
}
