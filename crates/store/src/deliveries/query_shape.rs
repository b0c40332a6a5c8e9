//! The choice of the index by which a page of deliveries is read.

use fanfare_core::outcome::State;
use uuid::Uuid;

use super::DeliveryFilter;

/// The statement that finds the keys of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryShape {
    /// The deliveries of the events with one `CloudEvents` id.
    Event,
    /// All deliveries, by the time of their events.
    Time,
    /// The deliveries of the events that are not settled.
    Open,
    /// The deliveries of each webhook, merged.
    Webhooks,
    /// The deliveries that are dead or dropped.
    Ended,
}

impl QueryShape {
    /// Whether the list is sorted by the time of receipt alone, so that a range of times is a range of
    /// partitions, and many deliveries of each day may match.
    pub(super) fn is_by_receipt(self) -> bool {
        matches!(self, Self::Time | Self::Webhooks)
    }

    pub(super) fn of(filter: &DeliveryFilter, webhooks: Option<&[Uuid]>) -> Self {
        match (filter.state, webhooks) {
            _ if filter.event.is_some() => Self::Event,
            (Some(State::Dead | State::Dropped), _) => Self::Ended,
            (Some(State::Pending | State::Retrying), _) => Self::Open,
            (_, Some(_)) => Self::Webhooks,
            (_, None) => Self::Time,
        }
    }
}
