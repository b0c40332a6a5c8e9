//! The delivery queues, and which of them the first attempts of a webhook go through.
//!
//! One queue is enough for nearly everybody. Who outgrows it spreads jobs over several, by webhook,
//! so that whatever may be about one delivery takes its way through the same queue. Nothing but the
//! load depends on it: any worker takes any job from any of the queues.

use crate::ids::WebhookId;

/// The most delivery queues.
const MOST: u8 = 16;

/// How many delivery queues there are: 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares(u8);

/// One of the delivery queues, by its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u8);

impl Shares {
    /// A single queue.
    pub const ONE: Self = Self(1);

    /// As many as there may be.
    pub const MOST: Self = Self(MOST);

    /// So many queues; `None` when there can't be so many.
    #[must_use]
    pub fn new(count: u8) -> Option<Self> {
        (1..=MOST).contains(&count).then_some(Self(count))
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.0
    }

    /// Each of them, the first one first.
    pub fn all(self) -> impl Iterator<Item = Share> {
        (1..=self.0).map(Share)
    }

    /// Those that there would be besides if there were as many as there may be.
    pub fn beyond(self) -> impl Iterator<Item = Share> {
        (self.0 + 1..=MOST).map(Share)
    }

    /// The one that a webhook's first attempts go through: always the same of so many.
    #[must_use]
    pub fn of(self, webhook: WebhookId) -> Share {
        let (high, low) = webhook.0.as_u64_pair();
        let below = mix(mix(high) ^ low) % u64::from(self.0);
        Share(1 + u8::try_from(below).unwrap_or_default())
    }
}

impl Share {
    /// The one that is always there.
    pub const FIRST: Self = Self(1);

    /// Its number, 1 to 16.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Spreads what differs in any bit over all of them (the finalizer of `SplitMix64`): imported
/// webhooks keep ids that somebody else made, in whatever way. It must never change: routers of
/// two versions run side by side during an upgrade, and both must take the same queue.
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
    fn there_are_one_to_sixteen() {
        for (count, expected) in [(0, None), (1, Some(1)), (16, Some(16)), (17, None)] {
            assert_eq!(Shares::new(count).map(Shares::count), expected);
        }
        let four = Shares::new(4).unwrap();
        let numbers = |shares: &mut dyn Iterator<Item = Share>| -> Vec<u8> {
            shares.map(Share::number).collect()
        };
        assert_eq!(numbers(&mut four.all()), [1, 2, 3, 4]);
        assert_eq!(numbers(&mut four.beyond()), (5..=16).collect::<Vec<u8>>());
        assert_eq!(Shares::MOST.beyond().count(), 0);
    }

    #[test]
    fn a_webhook_s_share_is_the_same_in_every_version() {
        let numbers = |count: u8| {
            let shares = Shares::new(count).unwrap();
            let ids = [0, 1, 2, u128::MAX, 0x0f8f_ad5b_d9cb_469f_a165_7086_7728_950e];
            ids.map(|bits| shares.of(webhook(bits)).number())
        };
        assert_eq!(numbers(1), [1; 5]);
        assert_eq!(numbers(4), [4, 3, 2, 3, 2]);
        assert_eq!(numbers(16), [16, 15, 10, 7, 6]);
    }

    /// Whatever the ids have in common.
    #[test]
    fn webhooks_are_spread_evenly() {
        const WEBHOOKS: u128 = 16_000;
        for count in 1..=16 {
            let shares = Shares::new(count).unwrap();
            for (kind, shift) in [("low bits", 0), ("in the middle", 56), ("high bits", 112)] {
                let mut counts = [0_u128; 17];
                for n in 0..WEBHOOKS {
                    counts[usize::from(shares.of(webhook(n << shift)).number())] += 1;
                }
                let fair = WEBHOOKS / u128::from(count);
                for share in shares.all() {
                    let got = counts[usize::from(share.number())];
                    let even = got.abs_diff(fair) <= fair / 8;
                    assert!(even, "{kind} of {count}: {got} instead of {fair}");
                }
            }
        }
    }
}
