//! The ids of events, batches, webhooks and deliveries.
//!
//! All but those of webhooks are digests of what they identify. So a router that restarts after a
//! crash, or a second router, computes the same ids without coordination.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        /// Prints as 32 lower-case hex digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }

        /// Reads 32 hex digits, with or without hyphens, in either case.
        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text.trim()).map(Self)
            }
        }
    };
}

id! {
    /// A webhook.
    WebhookId
}
id! {
    /// An event: a digest of the `source` and `id` that identify it.
    EventKey
}
id! {
    /// The events of one message: a batch, or a single event, whose key it then equals.
    BatchKey
}
id! {
    /// A delivery: one event or batch for one webhook. It is the `Id` that receivers see.
    DeliveryId
}

impl EventKey {
    /// The key of the event that `source` and `id` identify.
    #[must_use]
    pub fn of(source: &str, id: &str) -> Self {
        Self(digest("event", [source.as_bytes(), id.as_bytes()]))
    }
}

impl BatchKey {
    /// The key of a message that held a single event.
    #[must_use]
    pub fn single(event: EventKey) -> Self {
        Self(event.0)
    }

    /// The key of a message that held these events, in this order.
    #[must_use]
    pub fn batch(events: &[EventKey]) -> Self {
        Self(digest("batch", events.iter().map(|key| key.0.as_bytes().as_slice())))
    }
}

impl DeliveryId {
    /// The delivery of a batch to a webhook: the first half is that of the batch's key, the second
    /// half is from a digest of both. So the ledger finds a delivery by its batch, and needs no
    /// index of delivery ids.
    #[must_use]
    pub fn of(batch: BatchKey, webhook: WebhookId) -> Self {
        let parts = [batch.0.as_bytes().as_slice(), webhook.0.as_bytes().as_slice()];
        let (of_batch, _) = batch.0.as_u64_pair();
        let (of_both, _) = digest("delivery", parts).as_u64_pair();
        Self(Uuid::from_u64_pair(of_batch, of_both))
    }

    /// The range of keys that contains the batch of this delivery, both ends included.
    #[must_use]
    pub fn batches(self) -> (BatchKey, BatchKey) {
        let (of_batch, _) = self.0.as_u64_pair();
        let key = |rest| BatchKey(Uuid::from_u64_pair(of_batch, rest));
        (key(u64::MIN), key(u64::MAX))
    }
}

/// The first 128 bits of SHA-256 over the parts. Each part is preceded by its length, so that
/// different lists of parts never have the same input.
fn digest<'a>(kind: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn parts_with_the_same_concatenation_have_different_ids() {
        assert_ne!(EventKey::of("ab", "c"), EventKey::of("a", "bc"));
        assert_eq!(EventKey::of("ab", "c"), EventKey::of("ab", "c"));
    }

    #[test]
    fn a_delivery_id_is_32_lower_case_hex_digits() {
        let batch = BatchKey::single(EventKey::of("s", "1"));
        let text = DeliveryId::of(batch, WebhookId(Uuid::from_u128(7))).to_string();
        assert_eq!(text.len(), 32);
        assert!(text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)));
    }

    #[test]
    fn delivery_ids_are_unique_and_lie_in_the_range_of_their_batch() {
        let batches = ["1", "2"].map(|id| BatchKey::single(EventKey::of("s", id)));
        let webhooks = [7, 8].map(|id| WebhookId(Uuid::from_u128(id)));
        let ids: HashSet<DeliveryId> = batches
            .into_iter()
            .flat_map(|batch| webhooks.map(|webhook| DeliveryId::of(batch, webhook)))
            .collect();
        assert_eq!(ids.len(), 4);
        for id in ids {
            let (first, last) = id.batches();
            assert_eq!(batches.iter().filter(|key| (first..=last).contains(key)).count(), 1);
        }
    }
}
