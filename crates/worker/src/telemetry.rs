//! The worker's part of a trace: a span for each delivery that is attempted, and within it one for
//! the POST, which the receiver's own spans become a part of.

use fanfare_core::answer::Answer;
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::Outcome;
use fanfare_core::spans::TARGET;
use fanfare_core::webhook::Webhook;
use fanfare_trace::propagation;
use tracing::field::Empty;
use tracing::{Span, info_span};

/// Begins the span of a delivery in the trace of its event. It lasts until the attempt is recorded.
pub(crate) fn deliver(traceparent: Option<&str>, due: AttemptRef) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "deliver",
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        "messaging.operation.type" = "process",
        messaging.destination.name = if due.sequence == 1 { "fanfare.deliveries" } else { "fanfare.retries" },
        fanfare.webhook.id = %due.webhook,
        fanfare.delivery.id = %due.id(),
    );
    propagation::set_parent(&span, traceparent);
    span
}

/// Begins the span of a POST.
pub(crate) fn post(webhook: &Webhook, due: AttemptRef, attempt: i32) -> Span {
    let url = webhook.uri.url();
    info_span!(
        target: TARGET,
        "POST",
        otel.kind = "client",
        otel.status_description = Empty,
        http.request.method = "POST",
        http.response.status_code = Empty,
        server.address = url.host_str().unwrap_or_default(),
        server.port = url.port_or_known_default().map(i64::from),
        fanfare.webhook.id = %webhook.id,
        fanfare.delivery.id = %due.id(),
        fanfare.attempt = attempt,
        fanfare.outcome = Empty,
        "error.type" = Empty,
    )
}

/// Ends it with what came back.
pub(crate) fn end(span: &Span, answer: &Answer) {
    if span.is_disabled() {
        return;
    }
    let outcome = Outcome::of(answer).code();
    span.record("fanfare.outcome", outcome);
    let failure = match answer {
        Answer::Response { status, .. } => {
            span.record("http.response.status_code", i64::from(*status));
            (!(200..300).contains(status))
                .then(|| (status.to_string(), format!("{outcome} {status}")))
        }
        Answer::Failed { detail, .. } => Some((outcome.to_owned(), detail.clone())),
    };
    if let Some((kind, description)) = failure {
        span.record("error.type", kind).record("otel.status_description", description);
    }
}
