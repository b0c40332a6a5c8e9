//! OpenTelemetry: spans go from `tracing` to a collector, and their context into `traceparent`.
//!
//! The only crate that uses OpenTelemetry's libraries. Spans begin with `tracing`'s macros and the
//! target [`fanfare_core::spans::TARGET`], wherever something happens that is worth one.
//!
//! - [`exporter`] sends ended spans, in batches and on a thread of its own;
//! - [`sampling`] decides which traces are recorded;
//! - [`propagation`] connects spans to the traces of publishers and receivers.

pub mod exporter;
pub mod propagation;
pub mod sampling;
