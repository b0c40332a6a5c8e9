//! The router's part of a trace: a span for each event, from its taking to its plan in the ledger.

use fanfare_core::event::Event;
use fanfare_trace::{Kind, Span, Tracer};

/// Begins a span for each event of a message. Deliveries become a part of it: the event hands it on
/// instead of what it came with. The events of a batch go out under the first one's trace, so the
/// others' spans point there.
pub(crate) fn begin(tracer: &Tracer, events: &mut [Event]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for event in events {
        let name = format!("route {}", event.event_type);
        let Some(mut span) = tracer.begin(&name, Kind::Consumer, event.traceparent.as_deref())
        else {
            continue;
        };
        span.set("messaging.system", "rabbitmq");
        span.set("messaging.operation.type", "process");
        span.set("messaging.destination.name", "fanfare.events");
        span.set("cloudevents.event_id", event.id.as_str());
        span.set("cloudevents.event_type", event.event_type.as_str());
        if let Some(first) = spans.first() {
            span.link(first.context());
        }
        event.traceparent = Some(span.context().to_string());
        spans.push(span);
    }
    spans
}
