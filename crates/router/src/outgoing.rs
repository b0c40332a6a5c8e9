//! Messages that a router publishes.

use fanfare_broker::{Destination, Message};

/// Messages to publish.
pub(crate) type Outgoing = Vec<(Destination, Message)>;

/// When an event was first held for its directory revision (Unix milliseconds).
pub(crate) const HELD_SINCE: &str = "x-fanfare-held-since";
