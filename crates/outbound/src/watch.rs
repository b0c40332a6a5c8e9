//! A record of the bytes on an HTTP/1 connection during one exchange, while the HTTP library works.
//!
//! It answers three questions that the library leaves open: whether any byte of the request was
//! sent, which status line arrived if the library refused the answer, and whether the connection
//! can be used again. A connection has one exchange at a time, and [`Watch::begin`] starts a new
//! record, so a record never mixes two requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::head::Head;

/// The most bytes of an answer that are kept: enough for the head of nearly every answer.
const KEPT: usize = 32 * 1024;

/// The longest wait for the rest of a head after its status line. The status has decided by then.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// The record of one connection.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    exchange: Mutex<Exchange>,
    status: Notify,
}

#[derive(Debug, Default)]
struct Exchange {
    /// Whether the connection had an exchange before.
    reused: bool,
    begun: bool,
    sent: Sent,
    received: Vec<u8>,
    has_status: bool,
}

/// How much of the request was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sent {
    /// No byte.
    #[default]
    Nothing,
    /// At least one byte.
    Some,
    /// At least one byte, and the connection accepts no more.
    Broken,
}

impl Watch {
    /// Begins the record of a new exchange.
    pub(crate) fn begin(&self) {
        let mut exchange = self.lock();
        *exchange = Exchange { reused: exchange.begun, begun: true, ..Exchange::default() };
    }

    /// Frees the bytes of the answer, which an idle connection does not need.
    pub(crate) fn forget_answer(&self) {
        self.lock().received = Vec::new();
    }

    /// Whether the next byte is the first of a request, on a connection that was used before.
    pub(crate) fn is_first_write_again(&self) -> bool {
        let exchange = self.lock();
        exchange.reused && exchange.sent == Sent::Nothing
    }

    /// Whether the connection accepted at least one byte of the request.
    pub(crate) fn has_sent(&self) -> bool {
        self.lock().sent != Sent::Nothing
    }

    /// Whether the connection has stopped accepting the request.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().sent == Sent::Broken
    }

    /// Records that the connection accepted bytes.
    pub(crate) fn wrote(&self) {
        let mut exchange = self.lock();
        if exchange.sent == Sent::Nothing {
            exchange.sent = Sent::Some;
        }
    }

    /// Records that the connection accepts no more bytes.
    pub(crate) fn broke(&self) {
        self.lock().sent = Sent::Broken;
    }

    /// Records bytes that arrived.
    pub(crate) fn received(&self, bytes: &[u8]) {
        let mut exchange = self.lock();
        let room = KEPT.saturating_sub(exchange.received.len());
        exchange.received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if !exchange.has_status && Head::read(&exchange.received).is_some() {
            exchange.has_status = true;
            self.status.notify_one();
        }
    }

    /// Parses the head of the answer, as far as it has arrived.
    pub(crate) fn head<T>(&self, read: impl FnOnce(&Head<'_>) -> T) -> Option<T> {
        Head::read(&self.lock().received).as_ref().map(read)
    }

    /// Whether the answer begins like a TLS record: an alert, or a handshake.
    pub(crate) fn looks_like_tls(&self) -> bool {
        matches!(self.lock().received.as_slice(), [0x15 | 0x16, 3, 0..=4, ..])
    }

    /// Whether both sides agree that the connection can be used for another request, after the body
    /// of the answer has been read to its end.
    pub(crate) fn is_reusable(&self) -> bool {
        let exchange = self.lock();
        let head = Head::read(&exchange.received);
        exchange.sent != Sent::Broken && head.as_ref().is_some_and(Head::is_regular)
    }

    /// Waits until the head is overdue: at `deadline`, or [`HEAD_TIME`] after its status line.
    pub(crate) async fn late(&self, deadline: Instant) {
        tokio::select! {
            () = self.status_line() => {
                sleep_until(deadline.min(Instant::now() + HEAD_TIME)).await;
            }
            () = sleep_until(deadline) => {}
        }
    }

    async fn status_line(&self) {
        // A notification of the last exchange may still be pending.
        while !self.lock().has_status {
            self.status.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_covers_one_exchange() {
        let watch = Watch::default();
        watch.begin();
        assert!(!watch.has_sent() && !watch.is_first_write_again());
        watch.wrote();
        watch.received(b"HTTP/1.1 200 OK\r\n");
        assert!(!watch.is_reusable(), "the head is not complete");
        watch.received(b"\r\n");
        assert!(watch.has_sent() && watch.is_reusable());
        watch.begin();
        assert!(!watch.has_sent() && watch.is_first_write_again());
        assert_eq!(watch.head(|head| head.status), None);
    }
}
