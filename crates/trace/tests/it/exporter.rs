//! The requests to a collector, and the spans that a collector does not accept.

use std::time::{Duration, Instant};

use tracing::subscriber::with_default;

use crate::sink::{Sink, asked, exporter, received, subscriber};

/// The spans that wait, and those of the request that is under way.
const BOUND: usize = 8192 + 512;

const LONG: Duration = Duration::from_mins(1);

#[test]
fn finish_sends_the_remaining_spans_with_the_headers_and_the_service() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "parentbased_always_on");
    with_default(subscriber(&exporter), || drop(received()));
    exporter.finish(LONG);
    assert_eq!(sink.spans(), 1);
    assert_eq!(sink.headers()[0]["authorization"], "Bearer key");
    assert_eq!(sink.headers()[0]["content-type"], "application/json");
    for part in [r#""tester""#, r#""receive""#, r#""service.version""#] {
        assert!(sink.bodies().contains(part), "{part} in {}", sink.bodies());
    }
}

#[test]
fn spans_beyond_the_bounded_queue_are_dropped_while_a_collector_hangs() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "always_on");
    sink.close();
    with_default(subscriber(&exporter), || {
        for _ in 0..3 * BOUND {
            drop(received());
        }
    });
    assert_eq!(sink.spans(), 0);
    sink.open();
    exporter.finish(LONG);
    let spans = sink.spans();
    assert!((8192..=BOUND).contains(&spans), "{spans} of {}", 3 * BOUND);
}

#[test]
fn finish_ends_in_time_while_a_collector_hangs() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "always_on");
    sink.close();
    with_default(subscriber(&exporter), || drop(received()));
    let began = Instant::now();
    exporter.finish(Duration::from_millis(200));
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!(sink.spans(), 0);
    sink.open();
}

#[test]
fn only_spans_below_a_received_message_are_exported() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "always_on");
    with_default(subscriber(&exporter), || {
        drop(asked());
        received().in_scope(|| drop(asked()));
        // This span has another target.
        drop(tracing::info_span!("other", otel.kind = "consumer"));
    });
    exporter.finish(LONG);
    assert_eq!(sink.spans(), 2, "{}", sink.bodies());
    assert_eq!(sink.bodies().matches(r#""ask""#).count(), 1, "{}", sink.bodies());
}

#[test]
fn a_sampler_that_is_off_exports_nothing() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "always_off");
    with_default(subscriber(&exporter), || received().in_scope(|| drop(asked())));
    exporter.finish(LONG);
    assert_eq!(sink.headers().len(), 0);
}
