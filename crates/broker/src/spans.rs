//! A span for messages that are published together, with the attributes of OpenTelemetry's
//! conventions for messaging.

use fanfare_core::chain::chain;
use fanfare_core::spans::TARGET;
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::error::PublishError;
use crate::message::{Destination, Message};

/// Begins the span of a publish, which lasts until the broker has confirmed the messages. Its
/// destination is the first message's.
pub(crate) fn publish(messages: &[(Destination, Message)]) -> Span {
    let Some((first, _)) = messages.first() else { return Span::none() };
    info_span!(
        target: TARGET,
        "publish",
        otel.kind = "producer",
        otel.name = %format_args!("publish {}", first.describe()),
        otel.status_description = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        "messaging.operation.type" = "send",
        messaging.destination.name = first.describe(),
        messaging.batch.message_count = i64::try_from(messages.len()).unwrap_or(i64::MAX),
    )
}

/// Says that a message was not published.
pub(crate) fn fail(span: &Span, error: &PublishError) {
    if !span.is_disabled() {
        span.record("otel.status_description", chain(error));
    }
}
