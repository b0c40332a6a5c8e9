//! The metrics of a console: events that report servers publish over HTTP.

use fanfare_core::reject::Reason;
use prometheus_client::metrics::counter::Counter;

use crate::labels::{Counters, counters, number};
use crate::registry::Registry;

/// Why the broker has not confirmed what was published over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The broker can't be reached.
    Unavailable,
    /// No queue takes events.
    Unroutable,
    /// The broker refused the message.
    NotTaken,
    /// The confirm did not arrive.
    Unknown,
}

impl Unconfirmed {
    const ALL: [Self; 4] = [Self::Unavailable, Self::Unroutable, Self::NotTaken, Self::Unknown];

    fn label(self) -> [(&'static str, &'static str); 1] {
        let cause = match self {
            Self::Unavailable => "unavailable",
            Self::Unroutable => "unroutable",
            Self::NotTaken => "not-taken",
            Self::Unknown => "unknown",
        };
        [("cause", cause)]
    }
}

/// The families of a console.
#[derive(Debug)]
pub struct Console {
    accepted: Counter,
    refused: Counters<1>,
    unconfirmed: Counters<1>,
}

impl Console {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let reasons = Reason::OF_PARSING.map(|reason| [("reason", reason.code())]);
        Self {
            accepted: registry.counter(
                "http_events_accepted",
                "Events and directory documents that were published over HTTP and confirmed by the broker",
            ),
            refused: registry.family(
                "http_events_refused",
                "Events and directory documents that were sent over HTTP and refused, by reason",
                counters(reasons),
            ),
            unconfirmed: registry.family(
                "http_publishes_unconfirmed",
                "Requests to publish over HTTP that were answered 503 because the broker did not \
                 confirm, by cause",
                counters(Unconfirmed::ALL.map(Unconfirmed::label)),
            ),
        }
    }

    /// Counts events that the broker has confirmed.
    pub fn accepted(&self, events: usize) {
        self.accepted.inc_by(number(events));
    }

    /// Counts an event that was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&[("reason", reason.code())]).inc();
    }

    /// Counts a request whose message the broker did not confirm.
    pub fn unconfirmed(&self, cause: Unconfirmed) {
        self.unconfirmed.get_or_create(&cause.label()).inc();
    }
}
