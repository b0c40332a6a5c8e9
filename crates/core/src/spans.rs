//! The target of spans. All crates use the same one, so that one filter separates spans from the
//! log.

/// The target of the spans that are exported to a collector.
///
/// Without a collector no subscriber is interested in this target, so a span costs one comparison.
pub const TARGET: &str = "fanfare::spans";
