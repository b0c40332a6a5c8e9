//! Families by labels whose values are known in advance.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// The name and value of each label. All values are constants of the program.
pub(crate) type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A counter for each combination of label values.
pub(crate) type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// A gauge for each value of one label.
pub(crate) type Gauges = Family<Labels<1>, Gauge>;

/// Creates a counter with the value 0 for each of these labels.
pub(crate) fn counters<const N: usize>(all: impl IntoIterator<Item = Labels<N>>) -> Counters<N> {
    let counters = Counters::default();
    for labels in all {
        drop(counters.get_or_create(&labels));
    }
    counters
}

/// Converts a count to the type of counters.
pub(crate) fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
