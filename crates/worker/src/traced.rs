//! The worker's part of a trace: a span for each attempt, which the receiver's own spans become a
//! part of.

use fanfare_core::answer::Answer;
use fanfare_core::job::Due;
use fanfare_core::outcome::Outcome;
use fanfare_core::webhook::Webhook;
use fanfare_trace::{Kind, Span, Tracer};

/// Begins an attempt's span in the trace of its event.
pub(crate) fn begin(
    tracer: &Tracer,
    traceparent: Option<&str>,
    webhook: &Webhook,
    due: Due,
    attempt: i32,
) -> Option<Span> {
    let mut span = tracer.begin("POST", Kind::Client, traceparent)?;
    span.set("http.request.method", "POST");
    span.set("server.address", webhook.uri.url().host_str().unwrap_or_default());
    span.set("fanfare.webhook.id", webhook.id.to_string());
    span.set("fanfare.delivery.id", due.id().to_string());
    span.set("fanfare.attempt", i64::from(attempt));
    Some(span)
}

/// Ends it with what came back.
pub(crate) fn end(span: Option<Span>, answer: &Answer) {
    let Some(mut span) = span else {
        return;
    };
    let outcome = Outcome::of(answer).code();
    span.set("fanfare.outcome", outcome);
    match answer {
        Answer::Response { status, .. } => {
            span.set("http.response.status_code", i64::from(*status));
            if !(200..300).contains(status) {
                span.fail(format!("{outcome} {status}"));
            }
        }
        Answer::Failed { detail, .. } => span.fail(detail.clone()),
    }
}
