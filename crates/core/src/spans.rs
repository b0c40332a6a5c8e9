//! What the spans of all crates share, so that one filter tells them from the log.

/// The target of the spans that are exported to a collector.
///
/// Without a collector no subscriber takes this target, so that such a span costs a comparison.
pub const TARGET: &str = "fanfare::spans";
