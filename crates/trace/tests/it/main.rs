//! Spans that go from `tracing` through the exporter to a collector.

mod exporter;
mod propagation;
mod sink;
