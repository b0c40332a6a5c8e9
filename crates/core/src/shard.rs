//! The shards of the delivery queue, and the assignment of webhooks to them.
//!
//! Most installations need one queue. Beyond its capacity, jobs are sharded by webhook, so that all
//! jobs for a first attempt of one delivery use the same queue. Sharding only spreads the load:
//! every worker consumes all queues.

use crate::ids::WebhookId;

/// The largest number of delivery queues.
const MOST: u8 = 16;

/// The number of delivery queues: 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardCount(u8);

/// One of the delivery queues, by its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl ShardCount {
    /// A single queue.
    pub const ONE: Self = Self(1);

    /// The largest number of queues.
    pub const MOST: Self = Self(MOST);

    /// A number of queues; `None` if it is not from 1 to 16.
    #[must_use]
    pub fn new(count: u8) -> Option<Self> {
        (1..=MOST).contains(&count).then_some(Self(count))
    }

    #[must_use]
    pub const fn count(self) -> u8 {
        self.0
    }

    /// All queues, in the order of their numbers.
    pub fn all(self) -> impl Iterator<Item = Shard> {
        (1..=self.0).map(Shard)
    }

    /// The queues that are not used with this number of queues: those up to the largest number.
    pub fn beyond(self) -> impl Iterator<Item = Shard> {
        (self.0 + 1..=MOST).map(Shard)
    }

    /// The queue of a webhook's first attempts. It depends on the webhook and the number of queues
    /// only.
    #[must_use]
    pub fn of(self, webhook: WebhookId) -> Shard {
        let (high, low) = webhook.0.as_u64_pair();
        let below = mix(mix(high) ^ low) % u64::from(self.0);
        Shard(1 + u8::try_from(below).unwrap_or_default())
    }
}

impl Shard {
    /// The queue that always exists.
    pub const FIRST: Self = Self(1);

    /// The number of the queue, 1 to 16.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Mixes the bits, so that ids that differ in any bit are spread over all queues (the finalizer of
/// `SplitMix64`). Imported webhooks keep their ids, which need not be random. This function must
/// never change: routers of two versions run side by side during an upgrade, and must choose the
/// same queue.
const fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn webhook(bits: u128) -> WebhookId {
        WebhookId(Uuid::from_u128(bits))
    }

    #[test]
    fn a_number_of_queues_is_from_one_to_sixteen() {
        for (count, expected) in [(0, None), (1, Some(1)), (16, Some(16)), (17, None)] {
            assert_eq!(ShardCount::new(count).map(ShardCount::count), expected);
        }
        let four = ShardCount::new(4).unwrap();
        let numbers = |shards: &mut dyn Iterator<Item = Shard>| -> Vec<u8> {
            shards.map(Shard::number).collect()
        };
        assert_eq!(numbers(&mut four.all()), [1, 2, 3, 4]);
        assert_eq!(numbers(&mut four.beyond()), (5..=16).collect::<Vec<u8>>());
        assert_eq!(ShardCount::MOST.beyond().count(), 0);
    }

    #[test]
    fn the_queue_of_a_webhook_is_the_same_in_every_version() {
        let numbers = |count: u8| {
            let shards = ShardCount::new(count).unwrap();
            let ids = [0, 1, 2, u128::MAX, 0x0f8f_ad5b_d9cb_469f_a165_7086_7728_950e];
            ids.map(|bits| shards.of(webhook(bits)).number())
        };
        assert_eq!(numbers(1), [1; 5]);
        assert_eq!(numbers(4), [4, 3, 2, 3, 2]);
        assert_eq!(numbers(16), [16, 15, 10, 7, 6]);
    }

    #[test]
    fn webhooks_are_spread_evenly_whichever_bits_of_their_ids_differ() {
        const WEBHOOKS: u128 = 16_000;
        for count in 1..=16 {
            let shards = ShardCount::new(count).unwrap();
            for (kind, shift) in [("low bits", 0), ("in the middle", 56), ("high bits", 112)] {
                let mut counts = [0_u128; 17];
                for n in 0..WEBHOOKS {
                    counts[usize::from(shards.of(webhook(n << shift)).number())] += 1;
                }
                let fair = WEBHOOKS / u128::from(count);
                for shard in shards.all() {
                    let got = counts[usize::from(shard.number())];
                    let even = got.abs_diff(fair) <= fair / 8;
                    assert!(even, "{kind} of {count}: {got} instead of {fair}");
                }
            }
        }
    }
}
