//! The filter itself: bytes of the broker in, bytes for the library out. It never waits, and no
//! content of a message makes it fail.

use super::envelope::{self, Names};
use super::properties::{Flaw, Reader, is_readable};
use super::room::Arrivals;
use super::{AROUND, FrameMax, LARGEST_FRAME, LIBRARY_FRAME};
use std::collections::HashMap;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// The first byte of the greeting with which a broker refuses a version of the protocol.
const GREETING: u8 = b'A';
const GREETING_LENGTH: usize = 8;
const FRAME_END: u8 = 0xCE;
/// Type, channel and size.
const HEAD: usize = 7;

/// Class and method of `tune`, with which the broker states its limits.
const TUNE: [u8; 4] = [0, 10, 0, 30];
/// Class and method of `tune-ok`, with which the client chooses its limits.
const TUNE_OK: [u8; 4] = [0, 10, 0, 31];
/// The methods that precede a message, with the bytes between them and the name of the exchange.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const GET_OK: [u8; 4] = [0, 60, 0, 71];
const RETURN: [u8; 4] = [0, 60, 0, 50];
/// The methods that end a channel.
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// The largest method or header frame that is kept until it is whole, in bytes. A broker passes on
/// headers as they were published: more than this needs a broker whose own limit is higher.
const LARGEST_KEPT: usize = 16 * LARGEST_FRAME as usize;

/// A frame that can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("the broker sent a header frame of {0} bytes; set its frame_max to at most 2 MiB")]
pub(crate) struct TooLarge(usize);

/// Where in the stream of frames the filter is.
enum At {
    /// Before a frame, or in its first bytes.
    Head,
    /// In a frame that passes, with this number of bytes left.
    Passing(usize),
    /// In a method or header frame, which is kept until it is whole.
    Keeping(usize),
    /// In a body frame that is too large for the library, with this number of payload bytes left.
    Splitting { channel: [u8; 2], left: usize },
    /// Before the end of such a frame.
    SplitEnd,
    /// In a frame of a body that is left out, with this number of bytes left.
    LeavingOut(usize),
}

/// Filters the bytes from the broker to the library.
pub(crate) struct Filter {
    at: At,
    /// The frame that is kept, from its first byte.
    kept: Vec<u8>,
    /// For each channel, the names that were removed from a method, for the header that follows it.
    names: HashMap<[u8; 2], Names>,
    /// For each channel, the tag of a delivery whose header follows.
    delivering: HashMap<[u8; 2], u64>,
    /// For each channel, the number of bytes of a body that are still to be left out.
    leaving_out: HashMap<[u8; 2], u64>,
    arrivals: Arrivals,
    frame_max: FrameMax,
    /// The largest frame that the library accepts.
    limit: usize,
}

impl Filter {
    pub(crate) fn new(frame_max: FrameMax, arrivals: Arrivals) -> Self {
        let limit = frame_max.get().min(LIBRARY_FRAME) as usize;
        Self {
            at: At::Head,
            kept: Vec::new(),
            names: HashMap::new(),
            delivering: HashMap::new(),
            leaving_out: HashMap::new(),
            arrivals,
            frame_max,
            limit,
        }
    }

    /// Filters bytes from the broker, and adds those for the library to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            match self.at {
                At::Head => {
                    let taken = bytes.split_at(bytes.len().min(HEAD - self.kept.len()));
                    self.kept.extend_from_slice(taken.0);
                    bytes = taken.1;
                    if self.kept.len() == HEAD {
                        self.begin(out)?;
                    }
                }
                At::Passing(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left));
                    out.extend_from_slice(taken);
                    bytes = rest;
                    self.at = match left - taken.len() {
                        0 => At::Head,
                        left => At::Passing(left),
                    };
                }
                At::Keeping(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left));
                    self.kept.extend_from_slice(taken);
                    bytes = rest;
                    self.at = match left - taken.len() {
                        0 => {
                            self.whole(out);
                            At::Head
                        }
                        left => At::Keeping(left),
                    };
                }
                At::Splitting { channel, left } => {
                    // A frame of the bytes that have arrived, so that no memory is needed for a
                    // whole one.
                    let most = left.min(self.limit - AROUND);
                    let (taken, rest) = bytes.split_at(bytes.len().min(most));
                    frame(BODY, channel, taken, out);
                    bytes = rest;
                    self.at = match left - taken.len() {
                        0 => At::SplitEnd,
                        left => At::Splitting { channel, left },
                    };
                }
                At::SplitEnd => {
                    bytes = bytes.get(1..).unwrap_or_default();
                    self.at = At::Head;
                }
                At::LeavingOut(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left));
                    bytes = rest;
                    self.at = match left - taken.len() {
                        0 => At::Head,
                        left => At::LeavingOut(left),
                    };
                }
            }
        }
        Ok(())
    }

    /// Begins a frame whose head has arrived.
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let [kind, channel @ .., a, b, c, d] = self.kept.as_slice() else { return Ok(()) };
        let (kind, channel) = (*kind, [channel[0], channel[1]]);
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match kind {
            METHOD | HEADER if size > LARGEST_KEPT => return Err(TooLarge(size)),
            METHOD | HEADER => {
                self.at = At::Keeping(size + 1);
                return Ok(());
            }
            BODY if self.is_left_out(channel, size) => self.at = At::LeavingOut(size + 1),
            BODY if size + AROUND > self.limit => self.at = At::Splitting { channel, left: size },
            GREETING => {
                out.extend_from_slice(&self.kept);
                self.at = At::Passing(GREETING_LENGTH - HEAD);
            }
            _ => {
                out.extend_from_slice(&self.kept);
                self.at = At::Passing(size + 1);
            }
        }
        self.kept.clear();
        Ok(())
    }

    /// Whether a frame belongs to a body that is left out.
    fn is_left_out(&mut self, channel: [u8; 2], size: usize) -> bool {
        let Some(left) = self.leaving_out.get_mut(&channel) else { return false };
        *left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
        if *left == 0 {
            self.leaving_out.remove(&channel);
        }
        true
    }

    /// Handles a kept frame that is whole.
    fn whole(&mut self, out: &mut Vec<u8>) {
        let mut kept = std::mem::take(&mut self.kept);
        if let [kind, c1, c2, _, _, _, _, payload @ .., _] = kept.as_slice() {
            let channel = [*c1, *c2];
            let rewritten = match *kind {
                HEADER => self.header(channel, payload, out),
                _ => self.method(channel, payload, out),
            };
            if !rewritten {
                out.extend_from_slice(&kept);
            }
        }
        kept.clear();
        // The next frame uses the same memory, unless this one was an exception.
        if kept.capacity() <= self.limit {
            self.kept = kept;
        }
    }

    /// Replaces a method whose names are not UTF-8; false if the method can pass.
    fn method(&mut self, channel: [u8; 2], payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((method, arguments)) = payload.split_first_chunk() else { return false };
        let mut reader = Reader(arguments);
        let before = match *method {
            TUNE => {
                if let [_, _, a, b, c, d, ..] = *arguments {
                    self.frame_max.allowed(u32::from_be_bytes([a, b, c, d]));
                    let allowed = self.frame_max.get().min(LIBRARY_FRAME);
                    self.limit = allowed as usize;
                }
                return false;
            }
            // The consumer's tag is Fanfare's own.
            DELIVER => reader.short().and_then(|_| self.delivery(channel, &mut reader)),
            GET_OK => self.delivery(channel, &mut reader),
            RETURN => reader.take(2).and_then(|_| reader.short()).map(drop),
            CHANNEL_CLOSE | CHANNEL_CLOSE_OK => {
                self.arrivals.forget(u16::from_be_bytes(channel));
                return false;
            }
            _ => return false,
        };
        self.names.remove(&channel);
        if before.is_err() {
            return false;
        }
        let head = payload.len() - reader.0.len();
        let (Ok(exchange), Ok(routing_key)) = (reader.short(), reader.short()) else {
            return false;
        };
        if std::str::from_utf8(exchange).is_ok() && std::str::from_utf8(routing_key).is_ok() {
            return false;
        }
        let mut other = payload.get(..head).unwrap_or_default().to_vec();
        // The names are empty; the real ones follow in the envelope.
        other.extend([0, 0]);
        other.extend_from_slice(reader.0);
        frame(METHOD, channel, &other, out);
        let names = Names { exchange: exchange.to_vec(), routing_key: routing_key.to_vec() };
        self.names.insert(channel, names);
        true
    }

    /// Notes the tag of a delivery, which is followed by the redelivered flag.
    fn delivery(&mut self, channel: [u8; 2], reader: &mut Reader<'_>) -> Result<(), Flaw> {
        let mut tag = [0; 8];
        tag.copy_from_slice(reader.take(8)?);
        self.delivering.insert(channel, u64::from_be_bytes(tag));
        reader.take(1).map(drop)
    }

    /// Puts a header into an envelope if the library can't handle it; false if it can pass.
    fn header(&mut self, channel: [u8; 2], payload: &[u8], out: &mut Vec<u8>) -> bool {
        let names = if self.names.is_empty() { None } else { self.names.remove(&channel) };
        let delivery = self.delivering.remove(&channel);
        self.leaving_out.remove(&channel);
        let [c1, c2, _, _, size @ .., flags, _] = payload.get(..14).unwrap_or_default() else {
            return false;
        };
        let mut body_size = [0; 8];
        body_size.copy_from_slice(size);
        let body_size = u64::from_be_bytes(body_size);
        let admit = |tag| self.arrivals.admit(u16::from_be_bytes(channel), tag, body_size);
        if !delivery.is_none_or(admit) {
            frame(HEADER, channel, &envelope::without_body([*c1, *c2], body_size), out);
            self.leaving_out.insert(channel, body_size);
            return true;
        }
        let properties = payload.get(12..).unwrap_or_default();
        let fits = payload.len() + AROUND <= self.limit;
        // Most messages have no headers, or few.
        let marked = || *flags & 0x20 != 0 && envelope::has_mark(properties);
        if names.is_none() && fits && is_readable(properties) && !marked() {
            return false;
        }
        let sealed = envelope::seal(names.as_ref(), properties);
        let stub = envelope::stub([*c1, *c2], body_size, sealed.len());
        frame(HEADER, channel, &stub, out);
        for part in sealed.chunks(self.limit - AROUND) {
            frame(BODY, channel, part, out);
        }
        true
    }
}

fn frame(kind: u8, channel: [u8; 2], payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(channel);
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Rewrites the bytes from the library to the broker until the end of the handshake: the negotiated
/// frame becomes the larger one, which the library does not know of.
#[derive(Clone)]
pub(crate) struct Handshake {
    /// The number of bytes of the greeting or the frame so far.
    seen: usize,
    /// The frame's head and class and method.
    first: [u8; HEAD + 4],
    greeted: bool,
    done: bool,
}

impl Handshake {
    pub(crate) fn new() -> Self {
        Self { seen: 0, first: [0; HEAD + 4], greeted: false, done: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The same bytes, except for the frame's size in `tune-ok`.
    pub(crate) fn pass(&mut self, bytes: &[u8], frame_max: u32) -> Vec<u8> {
        let frame_max = frame_max.to_be_bytes();
        bytes.iter().map(|byte| self.pass_one(*byte, frame_max)).collect()
    }

    fn pass_one(&mut self, byte: u8, frame_max: [u8; 4]) -> u8 {
        if self.done {
            return byte;
        }
        let at = self.seen;
        self.seen += 1;
        if !self.greeted {
            self.greeted = self.seen == GREETING_LENGTH;
            if self.greeted {
                self.seen = 0;
            }
            return byte;
        }
        if let Some(first) = self.first.get_mut(at) {
            *first = byte;
        }
        let [_, _, _, a, b, c, d, method @ ..] = self.first;
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        let is_tune_ok = at >= self.first.len() && method == TUNE_OK;
        if at >= HEAD && self.seen == size + AROUND {
            self.done = is_tune_ok;
            self.seen = 0;
        }
        // Behind class and method comes the number of channels, in two bytes.
        let place = at.wrapping_sub(self.first.len() + 2);
        frame_max.get(place).copied().filter(|_| is_tune_ok).unwrap_or(byte)
    }
}
