//! Notices by the broker: an exchange to which anybody may bind a queue.

use fanfare_broker::{Destination, Message, NOTICES_EXCHANGE, PublishError, Session};
use fanfare_core::notice::Notice;

use crate::NotSent;

/// The media type of a structured `CloudEvent`.
const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Publishes notices. One that no queue wants counts as sent.
pub(crate) async fn send(session: &Session, notices: &[Notice]) -> Result<(), NotSent> {
    for notice in notices {
        let destination = Destination::Exchange {
            exchange: NOTICES_EXCHANGE.to_owned(),
            routing_key: notice.kind.code().to_owned(),
        };
        let mut message = Message::new(notice.cloud_event().to_string(), CLOUD_EVENT);
        message.message_id = Some(notice.id.simple().to_string());
        match session.publisher().publish(&destination, message).await {
            Ok(()) | Err(PublishError::Unroutable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
