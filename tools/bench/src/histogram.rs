//! How often each time was seen, to about one percent, in a few kilobytes.
//!
//! Times below 128 µs have a slot each; above, each power of two is split into 64.

/// Slots for each power of two.
const SPLIT: u64 = 64;

/// Counts of times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    slots: Vec<u64>,
    count: u64,
    most: u64,
}

impl Histogram {
    /// Counts a time in microseconds.
    pub(crate) fn add(&mut self, micros: u64) {
        let slot = slot(micros);
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, 0);
        }
        if let Some(seen) = self.slots.get_mut(slot) {
            *seen += 1;
        }
        self.count += 1;
        self.most = self.most.max(micros);
    }

    /// The time that so many of a thousand don't exceed, in microseconds; 0 when nothing was seen.
    pub(crate) fn quantile(&self, of_thousand: u64) -> u64 {
        let wanted = (self.count * of_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        for (slot, count) in (0..).zip(&self.slots) {
            seen += count;
            if seen >= wanted {
                return upper(slot).min(self.most);
            }
        }
        self.most
    }

    /// The longest time, in microseconds.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }
}

fn slot(micros: u64) -> usize {
    let shift = shift(micros);
    let slot = u64::from(shift) * SPLIT + (micros >> shift);
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// How many low bits of a time don't count.
fn shift(micros: u64) -> u32 {
    (64 - micros.leading_zeros()).saturating_sub(7)
}

/// The longest time of a slot.
fn upper(slot: u64) -> u64 {
    if slot < 2 * SPLIT {
        return slot;
    }
    let shift = slot / SPLIT - 1;
    ((slot - shift * SPLIT + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_slot_that_ends_at_or_just_above_it() {
        for micros in (0..100_000).chain([1 << 30, (1 << 40) + 12345]) {
            let upper = upper(slot(micros) as u64);
            assert!(upper >= micros && upper - micros <= micros / SPLIT, "{micros}: {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        (1..=1000).for_each(|n| histogram.add(n * 1000));
        for (of_thousand, expected) in [(500, 500_000), (990, 990_000), (1000, 1_000_000)] {
            let found = histogram.quantile(of_thousand);
            assert!(found >= expected && found <= expected + expected / SPLIT, "{found}");
        }
        assert_eq!(histogram.most(), 1_000_000);
    }
}
