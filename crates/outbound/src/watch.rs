//! What passes over an HTTP/1 connection during one exchange, noted while the HTTP library works.
//!
//! It answers three questions that the library leaves open: whether any byte of the request left,
//! which status line came although the library refused the answer, and whether the connection may
//! be used again. The connection serves one exchange at a time, and [`Watch::begin`] starts a new
//! note, so a note never speaks of another request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::head::Head;

/// The most that is kept of an answer, in bytes: the head of nearly every answer.
const KEPT: usize = 32 * 1024;

/// How long the rest of a head is awaited after its status line. The status has decided by then.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// The notes about one connection.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    exchange: Mutex<Exchange>,
    status: Notify,
}

#[derive(Debug, Default)]
struct Exchange {
    /// Whether there was one before on this connection.
    reused: bool,
    begun: bool,
    sent: Sent,
    received: Vec<u8>,
    has_status: bool,
}

/// What became of the request's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sent {
    /// None was taken by the connection.
    #[default]
    Nothing,
    /// Some were.
    Some,
    /// The connection stopped taking them.
    Broken,
}

impl Watch {
    /// Forgets the last exchange; the next bytes are those of another one.
    pub(crate) fn begin(&self) {
        let mut exchange = self.lock();
        *exchange = Exchange { reused: exchange.begun, begun: true, ..Exchange::default() };
    }

    /// Frees what was kept of the answer: an idle connection needs none of it.
    pub(crate) fn forget_answer(&self) {
        self.lock().received = Vec::new();
    }

    /// Whether the next byte to be written is a request's first, on a connection used before.
    pub(crate) fn is_first_write_again(&self) -> bool {
        let exchange = self.lock();
        exchange.reused && exchange.sent == Sent::Nothing
    }

    /// Whether any byte of the request was taken by the connection.
    pub(crate) fn has_sent(&self) -> bool {
        self.lock().sent != Sent::Nothing
    }

    /// Whether the connection has stopped taking the request.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().sent == Sent::Broken
    }

    /// Notes that the connection took bytes.
    pub(crate) fn wrote(&self) {
        let mut exchange = self.lock();
        if exchange.sent == Sent::Nothing {
            exchange.sent = Sent::Some;
        }
    }

    /// Notes that the connection takes no more bytes.
    pub(crate) fn broke(&self) {
        self.lock().sent = Sent::Broken;
    }

    /// Notes bytes that came.
    pub(crate) fn received(&self, bytes: &[u8]) {
        let mut exchange = self.lock();
        let room = KEPT.saturating_sub(exchange.received.len());
        exchange.received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if !exchange.has_status && Head::read(&exchange.received).is_some() {
            exchange.has_status = true;
            self.status.notify_one();
        }
    }

    /// Reads the answer's head from what has come of it.
    pub(crate) fn head<T>(&self, read: impl FnOnce(&Head<'_>) -> T) -> Option<T> {
        Head::read(&self.lock().received).as_ref().map(read)
    }

    /// Whether what came is the beginning of a TLS record: an alert, or a handshake.
    pub(crate) fn looks_like_tls(&self) -> bool {
        matches!(self.lock().received.as_slice(), [0x15 | 0x16, 3, 0..=4, ..])
    }

    /// Whether both sides agree that the connection can take another request, once the body of the
    /// answer was read to its end.
    pub(crate) fn is_reusable(&self) -> bool {
        let exchange = self.lock();
        let head = Head::read(&exchange.received);
        exchange.sent != Sent::Broken && head.as_ref().is_some_and(Head::is_regular)
    }

    /// Waits until the head is overdue: at `deadline`, or some time after its status line.
    pub(crate) async fn late(&self, deadline: Instant) {
        tokio::select! {
            () = self.status_line() => {
                sleep_until(deadline.min(Instant::now() + HEAD_TIME)).await;
            }
            () = sleep_until(deadline) => {}
        }
    }

    async fn status_line(&self) {
        // A word of the last exchange may still wait to be heard.
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
    fn a_note_is_about_one_exchange() {
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
