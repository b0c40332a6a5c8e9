//! Spans that go from `tracing` through the exporter to a collector.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod exporter;
mod propagation;
mod sink;
