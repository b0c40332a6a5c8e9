//! Converts input from RabbitMQ that the protocol library can't handle into a form that it can.
//!
//! AMQP 0-9-1 and RabbitMQ allow any bytes in routing keys, in properties such as `message_id` and
//! in the names of headers, header tables of any depth, and header frames as large as the frame of
//! the connection that published them. The library ends the whole connection on bytes that are not
//! UTF-8 and on a frame larger than its own limit, and its parser overflows the stack of its thread
//! on a deep table. One such message at the head of a queue would stop every process that reads it.
//!
//! So a [`filter`] is between the socket and the library. It rewrites only frames that the library
//! can't handle: the header frame becomes a stub, and its content becomes the first bytes of the
//! body ([`envelope`]). The receiver of the message opens the envelope and decodes the properties
//! one by one ([`properties`]). All other bytes pass unchanged.
//!
//! The library also reads every message into memory, whatever its size. So the filter leaves out
//! the body of a delivery for which there is no [`room`] now, and its consumer requeues it.

pub(crate) mod envelope;
pub(crate) mod filter;
pub(crate) mod properties;
pub(crate) mod room;
pub(crate) mod stream;

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The largest frame that the library handles, in bytes. It keeps two buffers of 32 frames for each
/// connection: with what the broker allows, 128 KiB, these would be 8 MiB.
pub(crate) const LIBRARY_FRAME: u32 = 32 * 1024;

/// The largest frame that is agreed on with the broker, in bytes. The library writes a larger
/// header frame than its own limit, as long as its buffer of 32 frames holds it.
pub(crate) const LARGEST_FRAME: u32 = 128 * 1024;

/// The smallest frame that AMQP allows as a maximum.
pub(crate) const SMALLEST_FRAME: u32 = 4096;

/// The bytes around a frame's payload: type, channel, size, and the end mark.
pub(crate) const AROUND: usize = 8;

/// The frame that was agreed on with the broker, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct FrameMax(Arc<AtomicU32>);

impl FrameMax {
    /// At most `wanted` bytes, until the broker has said what it allows.
    pub(crate) fn at_most(wanted: u32) -> Self {
        Self(Arc::new(AtomicU32::new(wanted.clamp(SMALLEST_FRAME, LARGEST_FRAME))))
    }

    /// Notes the limit of the broker; 0 means no limit.
    pub(crate) fn allowed(&self, by_broker: u32) {
        if by_broker != 0 {
            self.0.fetch_min(by_broker.max(SMALLEST_FRAME), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
