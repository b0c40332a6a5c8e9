//! OpenTelemetry: spans go from `tracing` to a collector, and their context into `traceparent`.
//!
//! Only this crate uses OpenTelemetry's libraries. The other crates create spans with the macros of
//! `tracing` and the target [`fanfare_core::spans::TARGET`].
//!
//! - [`exporter`] sends ended spans, in batches and on a separate thread;
//! - [`sampling`] decides which traces are recorded;
//! - [`propagation`] connects spans to the traces of publishers and receivers.

pub mod exporter;
pub mod propagation;
pub mod sampling;
