//! Spans in the traces of publishers and receivers.

use fanfare_trace::propagation::{first_recorded, is_recorded, set_parent, traceparent};
use tracing::subscriber::with_default;

use crate::sink::{Sink, asked, exporter, received, subscriber};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The `traceparent` that a span passes on if it received `parent`.
fn passed_on(sampler: &str, parent: Option<&str>) -> Option<String> {
    let exporter = exporter(&Sink::default(), sampler);
    with_default(subscriber(&exporter), || {
        let span = received();
        set_parent(&span, parent);
        traceparent(&span, parent)
    })
}

#[test]
fn a_recorded_span_passes_its_own_id_on_in_the_trace_of_its_parent() {
    for version in ["00", "01", "cc"] {
        let parent = PARENT.replacen("00", version, 1);
        let passed = passed_on("parentbased_always_on", Some(&parent)).unwrap();
        assert!(passed.starts_with(&PARENT[..36]) && passed.ends_with("-01"), "{passed}");
        assert_ne!(passed, PARENT);
    }
    let passed = passed_on("parentbased_always_on", None).unwrap();
    assert!(passed.starts_with("00-") && passed.ends_with("-01") && passed.len() == PARENT.len());
}

#[test]
fn a_span_that_is_not_recorded_passes_the_received_traceparent_on() {
    let unrecorded = PARENT.replace("-01", "-00");
    for (sampler, parent) in
        [("parentbased_always_on", unrecorded.as_str()), ("always_off", PARENT)]
    {
        assert_eq!(passed_on(sampler, Some(parent)).as_deref(), Some(parent), "{sampler}");
    }
    // The next process does not record the trace either.
    assert!(passed_on("always_off", None).unwrap().ends_with("-00"));
}

#[test]
fn a_traceparent_that_is_not_valid_begins_a_trace() {
    for wrong in [
        "",
        "x",
        "ff-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01",
        "00-00000000000000000000000000000000-00ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ] {
        let passed = passed_on("parentbased_always_on", Some(wrong)).unwrap();
        assert!(!passed.contains("0af7651916cd43dd8448eb211c80319c"), "{wrong}: {passed}");
        assert!(passed.ends_with("-01"), "{wrong}: {passed}");
    }
}

#[test]
fn without_an_exporter_spans_are_disabled_and_headers_are_passed_on_unchanged() {
    with_default(tracing_subscriber::registry(), || {
        let span = tracing::Span::none();
        set_parent(&span, Some(PARENT));
        assert_eq!(traceparent(&span, Some(PARENT)).as_deref(), Some(PARENT));
        assert_eq!(traceparent(&span, None), None);
        assert!(!is_recorded(&span) && first_recorded([&span]).is_disabled());
    });
}

#[test]
fn work_for_several_messages_belongs_to_the_first_recorded_span() {
    let sink = Sink::default();
    let exporter = exporter(&sink, "parentbased_always_on");
    with_default(subscriber(&exporter), || {
        let (unrecorded, recorded) = (received(), received());
        set_parent(&unrecorded, Some(&PARENT.replace("-01", "-00")));
        let first = first_recorded([&unrecorded, &recorded]);
        assert_eq!(first.id(), recorded.id());
        first.in_scope(|| drop(asked()));
    });
    exporter.finish(std::time::Duration::from_mins(1));
    assert_eq!(sink.spans(), 2);
}
