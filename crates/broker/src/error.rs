//! The errors of the broker. Their texts say what an operator can do.

use lapin::ErrorKind;

/// The cause under an error of this crate.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure of the broker, or of the connection to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The configured address cannot be read. Never holds the address: it has a password.
    #[error("the broker's address is not usable: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS parameters of the configured address can't be used.
    #[error("TLS to the broker can't be set up")]
    Tls(#[source] fanfare_tls::TlsError),
    /// No connection could be made. Try again.
    #[error("could not connect to RabbitMQ at {broker}")]
    Unreachable {
        /// Host, port and virtual host.
        broker: String,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// A peer accepted the connection and did not answer. Try again.
    #[error("RabbitMQ at {broker} did not answer within {seconds} s")]
    NoAnswer {
        /// Host, port and virtual host.
        broker: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Client and broker do not agree about TLS.
    #[error("TLS with RabbitMQ at {broker} failed")]
    TlsRefused {
        /// Host, port and virtual host.
        broker: String,
        /// Why, and what to do.
        #[source]
        source: Cause,
    },
    /// The broker knows neither this user nor this password.
    #[error(
        "RabbitMQ at {broker} refused user {user}: check the name and password in the broker's \
         address, and that the user may log in from this host"
    )]
    LoginRefused {
        /// Host, port and virtual host.
        broker: String,
        /// The user's name.
        user: String,
    },
    /// The virtual host does not exist, or the user may not use it.
    #[error(
        "RabbitMQ at {broker} does not let user {user} in: create the virtual host or give the \
         user permissions on it"
    )]
    VirtualHostRefused {
        /// Host, port and virtual host.
        broker: String,
        /// The user's name.
        user: String,
        /// The broker's words.
        #[source]
        source: Cause,
    },
    /// An exchange or queue exists, but is not as Fanfare needs it.
    #[error(
        "{what} exists with another {argument} than Fanfare needs ({difference}): if it is empty, \
         delete it and Fanfare declares it again; otherwise move its messages away first, or undo \
         what changed it"
    )]
    Different {
        /// Such as `queue fanfare.events`.
        what: String,
        /// The argument that differs.
        argument: String,
        /// What was asked for and what there is, in the broker's words.
        difference: String,
    },
    /// The exchange of the report server can't be used. It belongs to the report server, so Fanfare
    /// never changes it.
    #[error(
        "exchange {exchange} has another {property} than Fanfare can use ({difference}): have the \
         report server declare it as a durable topic exchange; Fanfare uses it as it is otherwise, \
         and changes nothing about it"
    )]
    ExchangeUnusable {
        /// The exchange's name.
        exchange: String,
        /// What of it: its type, or whether it is durable.
        property: String,
        /// What was asked for and what there is, in the broker's words.
        difference: String,
    },
    /// An exchange or queue does not exist.
    #[error("{doing}: it does not exist in the broker, and the next start of a router creates it")]
    Missing {
        /// What was being done, and with what.
        doing: String,
        /// The broker's words.
        #[source]
        source: Cause,
    },
    /// The user lacks a permission.
    #[error(
        "{doing}: the user lacks a permission; deploy/rabbitmq/definitions.json has those of each \
         role"
    )]
    Forbidden {
        /// What was being done, and with what.
        doing: String,
        /// The broker's words.
        #[source]
        source: Cause,
    },
    /// The connection or the channel is gone. Messages that are not acknowledged will be redelivered.
    /// Give up this session and open another one.
    #[error("{doing}: the connection to the broker was lost")]
    Lost {
        /// What was being done.
        doing: String,
        /// Why, when that is known.
        #[source]
        source: Option<Cause>,
    },
    /// The broker ended a consumer, as it does when its queue is deleted. Open another session.
    #[error("the broker stopped delivering from {queue}: it was deleted or moved")]
    ConsumerGone {
        /// The queue's name.
        queue: &'static str,
    },
    /// A publish failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why it is not certain that a message was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No queue receives it: a queue or a binding is missing. The message was not stored.
    #[error(
        "no queue takes messages sent to {destination}: the queue or its binding is missing, and \
         the next start of Fanfare makes them"
    )]
    Unroutable {
        /// Exchange and routing key.
        destination: String,
    },
    /// The broker refused it. The message was not stored; publish it again later.
    #[error("the broker did not take a message sent to {destination}")]
    Refused {
        /// Exchange and routing key.
        destination: String,
    },
    /// The message cannot be published as it is, now or later.
    #[error("a message cannot be sent: {reason}")]
    Unsendable {
        /// What is wrong with it.
        reason: String,
    },
    /// The broker did not confirm in time, as when a queue is broken: the messages may have been
    /// stored or not. Publish them again with the same identity.
    #[error("the broker did not confirm messages within {seconds} s: they may have arrived or not")]
    NoConfirm {
        /// How long was waited.
        seconds: u64,
    },
    /// The connection broke before the broker's confirm: the message may have been stored or not.
    /// Publish it again with the same identity.
    #[error("the broker's confirm of a message did not come: it may have arrived or not")]
    Unknown {
        /// Why.
        #[source]
        source: Cause,
    },
}

impl BrokerError {
    /// Classifies lapin's error of an operation on an open connection.
    pub(crate) fn of(doing: impl Into<String>, error: &lapin::Error) -> Self {
        let doing = doing.into();
        let source = cause(error);
        match reply_code(error) {
            Some((403, _)) => Self::Forbidden { doing, source },
            Some((404, _)) => Self::Missing { doing, source },
            Some((406, text)) => {
                inequivalent(text).unwrap_or(Self::Lost { doing, source: Some(source) })
            }
            _ => Self::Lost { doing, source: Some(source) },
        }
    }

    /// Whether the failure is permanent: a person has to change the broker, the user's permissions, or
    /// the address.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Address { .. }
                | Self::Tls(_)
                | Self::TlsRefused { .. }
                | Self::LoginRefused { .. }
                | Self::VirtualHostRefused { .. }
                | Self::Forbidden { .. }
                | Self::Different { .. }
                | Self::ExchangeUnusable { .. }
        )
    }
}

/// The error under lapin's wrapping, so that a chain of causes says each thing once.
pub(crate) fn cause(error: &lapin::Error) -> Cause {
    match error.kind() {
        ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => {
            Box::new(std::sync::Arc::clone(error))
        }
        ErrorKind::ProtocolError(error) => error.get_message().to_string().into(),
        _ => Box::new(error.clone()),
    }
}

pub(crate) fn reply_code(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().as_str())),
        _ => None,
    }
}

/// Reads `PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'a' in vhost '/':
/// received '1' but current is '2'`; `None` for other failed preconditions.
fn inequivalent(text: &str) -> Option<BrokerError> {
    let (argument, rest) = text.split_once("inequivalent arg '")?.1.split_once("' for ")?;
    let (what, rest) = rest.split_once(" in vhost ").unwrap_or((rest, ""));
    let difference = rest.split_once(": ").map_or(rest, |(_, difference)| difference);
    Some(BrokerError::Different {
        what: what.replace('\'', ""),
        argument: argument.to_owned(),
        difference: difference.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_differs_and_what_to_do() {
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue \
                    'fanfare.events' in vhost '/': received the value '1000' of type 'signedint' \
                    but current is none";
        assert_eq!(
            inequivalent(text).map(|error| error.to_string()).as_deref(),
            Some(
                "queue fanfare.events exists with another x-delivery-limit than Fanfare needs \
                 (received the value '1000' of type 'signedint' but current is none): if it is \
                 empty, delete it and Fanfare declares it again; otherwise move its messages \
                 away first, or undo what changed it"
            )
        );
    }

    #[test]
    fn what_exists_otherwise_than_fanfare_can_use_needs_a_person() {
        let text = || String::new();
        let (what, argument, difference) = (text(), text(), text());
        assert!(BrokerError::Different { what, argument, difference }.needs_a_person());
        let (exchange, property, difference) = (text(), text(), text());
        assert!(BrokerError::ExchangeUnusable { exchange, property, difference }.needs_a_person());
        assert!(!BrokerError::Lost { doing: text(), source: None }.needs_a_person());
    }

    #[test]
    fn other_preconditions_are_not_about_the_topology() {
        assert!(inequivalent("PRECONDITION_FAILED - delivery acknowledgement timed out").is_none());
    }
}
