//! Spans and the header `traceparent` (W3C Trace Context).

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// Makes a span a part of the trace in `traceparent`. If that is absent or not valid, the span
/// begins a trace.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent.filter(|_| !span.is_disabled()) else { return };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    // It fails only for a span that was entered, or whose subscriber exports nothing.
    let _ = span.set_parent(parent);
}

/// The `traceparent` to pass on: that of the span if it is recorded, else the `received` one.
///
/// If the span is not recorded and none was received, it is that of the span, marked as not
/// recorded. So the next process does not record the trace either, and does not begin another one.
#[must_use]
pub fn traceparent(span: &Span, received: Option<&str>) -> Option<String> {
    let received = || received.map(str::to_owned);
    if span.is_disabled() {
        return received();
    }
    let context = span.context();
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    let own = carrier.remove(TRACEPARENT);
    if context.span().span_context().is_sampled() { own } else { received().or(own) }
}

/// Adds a link from one span to a related one.
pub fn link(from: &Span, to: &Span) {
    from.add_link(to.context().span().span_context().clone());
}

/// Whether a span is recorded.
#[must_use]
pub fn is_recorded(span: &Span) -> bool {
    !span.is_disabled() && span.context().span().span_context().is_sampled()
}

/// The first recorded one of several spans, else a disabled span. Work for several messages
/// together belongs to the trace of that span.
#[must_use]
pub fn first_recorded<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Span {
    spans.into_iter().find(|span| is_recorded(span)).cloned().unwrap_or_else(Span::none)
}
