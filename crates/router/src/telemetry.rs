//! The router's part of a trace: a span for each event, from its receipt until its plan is in the
//! ledger and its jobs are confirmed.

use fanfare_core::event::Event;
use fanfare_core::spans::TARGET;
use fanfare_trace::propagation;
use tracing::{Span, info_span};

/// Begins a span for each event of a message. Deliveries become a part of it: the event passes it
/// on instead of what it came with. The events of a batch go out under the first one's trace, so the
/// others' spans point there.
pub(crate) fn begin(events: &mut [Event]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for event in events {
        let span = info_span!(
            target: TARGET,
            parent: None,
            "route",
            otel.kind = "consumer",
            otel.name = %format_args!("route {}", event.event_type),
            messaging.system = "rabbitmq",
            "messaging.operation.type" = "process",
            messaging.destination.name = "fanfare.events",
            cloudevents.event_id = event.id.as_str(),
            cloudevents.event_type = event.event_type.as_str(),
        );
        if span.is_disabled() {
            return spans;
        }
        propagation::set_parent(&span, event.traceparent.as_deref());
        event.traceparent = propagation::traceparent(&span, event.traceparent.as_deref());
        if !propagation::is_recorded(&span) {
            continue;
        }
        if let Some(first) = spans.first() {
            propagation::link(&span, first);
        }
        spans.push(span);
    }
    spans
}
