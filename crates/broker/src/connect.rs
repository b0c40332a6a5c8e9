//! Opening a connection to the broker.

use crate::config::Config;
use crate::error::{BrokerError, cause, reply_code};
use crate::host::{BrokerHost, CONNECT_TIMEOUT_S, Secure, unusable};
use crate::hosts::HostNumber;
use crate::wire::FrameMax;
use crate::wire::room::{Arrivals, Room};
use crate::wire::stream::{Filtered, Kit};
use async_rs::Runtime;
use fanfare_core::chain::chain;
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector, TLSConfig};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, Error};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(CONNECT_TIMEOUT_S);

/// How long one of several hosts may take to answer a greeting before the next one is tried. A node that
/// hangs still accepts connections.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// A connection and the largest frame that may be sent on it.
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    /// In bytes, all of the frame.
    pub(crate) frame_max: u32,
    /// The large messages that were received on it.
    pub(crate) arrivals: Arrivals,
    /// Which of the hosts it is to.
    pub(crate) host: HostNumber,
}

/// Connects to the host that this process prefers, or else to the next one that can be used, which
/// is preferred from then on. A host that does not answer soon is tried after the others.
///
/// # Errors
///
/// One that waiting may mend, if there is one among the hosts' errors; else the last one.
pub(crate) async fn connect_any(config: &Config, purpose: &str) -> Result<Connected, BrokerError> {
    let hosts = config.hosts();
    let order = hosts.order();
    let is_one_of_several = order.len() > 1;
    let mut order: VecDeque<_> =
        order.into_iter().map(|number| (number, is_one_of_several)).collect();
    let mut failure = unusable("it names no host");
    while let Some((number, may_be_later)) = order.pop_front() {
        let host = hosts.get(number);
        if may_be_later && !answers_soon(host).await {
            order.push_back((number, false));
            continue;
        }
        let name = format!("{} ({purpose})", config.name());
        match connect((number, host), name, config.room()).await {
            Ok(connected) => {
                hosts.prefer(number);
                return Ok(connected);
            }
            Err(error) => {
                if is_one_of_several {
                    let broker = host.label.as_str();
                    let error = chain(&error);
                    tracing::warn!(broker, error, "one host of the broker can't be used");
                }
                if may_come_back(&error) || !may_come_back(&failure) {
                    failure = error;
                }
            }
        }
    }
    Err(failure)
}

/// Whether a host answers a greeting, or refuses it, within [`FIRST_ANSWER`].
async fn answers_soon(host: &BrokerHost) -> bool {
    let is_silent = matches!(greet(host, FIRST_ANSWER).await, Err(BrokerError::NoAnswer { .. }));
    host.silent.fetch_or(is_silent, Ordering::Relaxed);
    !is_silent
}

/// Whether the host may be usable later without a change to its or this process's settings.
fn may_come_back(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Unreachable { .. } | BrokerError::NoAnswer { .. })
}

/// Connects under a name that operators see. Large messages are received while there is memory for
/// them.
async fn connect(
    (number, host): (HostNumber, &BrokerHost),
    name: String,
    room: &Room,
) -> Result<Connected, BrokerError> {
    if host.silent.load(Ordering::Relaxed) {
        greet(host, CONNECT_TIMEOUT).await?;
    }
    let opened = match timeout(CONNECT_TIMEOUT, open((number, host), name, room)).await {
        Ok(opened) => opened,
        Err(_) => Err(no_answer(host, CONNECT_TIMEOUT)),
    };
    let silent = matches!(opened, Err(BrokerError::NoAnswer { .. }));
    host.silent.store(silent, Ordering::Relaxed);
    opened
}

async fn open(
    (number, host): (HostNumber, &BrokerHost),
    name: String,
    room: &Room,
) -> Result<Connected, BrokerError> {
    // Read for each connection, because a certificate may have been renewed.
    let connector = host.secure.as_ref().map(connector).transpose()?;
    // Automatic recovery stays off: it hides failures.
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let frame_max = FrameMax::at_most(host.frame_max);
    let arrivals = Arrivals::new(room.clone());
    let kit = Kit::current(frame_max.clone(), arrivals.clone());
    let (tokio, agreed) = (Runtime::new(kit.tokio()), frame_max.clone());
    let arriving = arrivals.clone();
    let connecting = Connection::connector(
        host.uri.clone(),
        Runtime::new(kit),
        async move |uri, _| {
            let plain = uri.connect_with_config_async(TLSConfig::default(), &tokio).await?;
            let stream = match &connector {
                Some((connector, name)) => plain.into_rustls(connector, name).await?,
                None => plain,
            };
            Ok(AsyncTcpStream::Plain(Filtered::new(stream, &frame_max, &arriving)))
        },
        properties,
    );
    let connection = connecting.await.map_err(|error: Error| connect_error(host, &error))?;
    Ok(Connected { connection, frame_max: agreed.get(), arrivals, host: number })
}

fn connector(secure: &Secure) -> Result<(RustlsConnector, String), BrokerError> {
    let config = secure.tls.client_config().map_err(BrokerError::Tls)?;
    Ok((Arc::new(config).into(), secure.server_name.clone()))
}

/// Probes whether a peer answers at a host's address.
///
/// An attempt to connect to a peer that accepts and then never answers can't be cancelled: the
/// library's thread goes on waiting. So after one such attempt this probe comes first. It sends a
/// greeting that a broker answers and a TLS endpoint refuses; either is a sign of life.
async fn greet(host: &BrokerHost, limit: Duration) -> Result<(), BrokerError> {
    let authority = &host.uri.authority;
    let greet = async {
        let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read(&mut [0; 1]).await
    };
    match timeout(limit, greet).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            Err(BrokerError::Unreachable { broker: host.label.clone(), source: error.into() })
        }
        Err(_) => Err(no_answer(host, limit)),
    }
}

fn no_answer(host: &BrokerHost, limit: Duration) -> BrokerError {
    BrokerError::NoAnswer { broker: host.label.clone(), seconds: limit.as_secs() }
}

/// Classifies lapin's error of an attempt to connect.
fn connect_error(host: &BrokerHost, error: &Error) -> BrokerError {
    let (broker, user) = (host.label.clone(), host.user().to_owned());
    let source = cause(error);
    match reply_code(error) {
        Some((403, _)) => BrokerError::LoginRefused { broker, user },
        // A limit of connections has the same code, and may be free again soon.
        Some((530, text)) if !text.contains("connection limit") => {
            BrokerError::VirtualHostRefused { broker, user, source }
        }
        _ => match fanfare_tls::advice(source.as_ref(), host.secure.is_some()) {
            // A broker that stops ends handshakes, too.
            Some(advice) if advice == fanfare_tls::ENDED => {
                BrokerError::Unreachable { broker, source: format!("{source}: {advice}").into() }
            }
            Some(advice) => {
                BrokerError::TlsRefused { broker, source: format!("{source}: {advice}").into() }
            }
            None => BrokerError::Unreachable { broker, source },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_connections_may_be_free_again_soon_and_a_refusal_stays() {
        let host = BrokerHost::parse("amqp://anna@localhost/limited").unwrap();
        let refused = |text: &str| {
            let error = lapin::protocol::AMQPError::from_id(530, text.into()).unwrap();
            connect_error(&host, &lapin::ErrorKind::ProtocolError(error).into())
        };
        let to = "NOT_ALLOWED - access to vhost 'limited' refused for user 'anna'";
        for limit in [
            format!("{to}: connection limit (1) is reached"),
            "NOT_ALLOWED - connection refused for user 'anna': user connection limit (1) is reached"
                .to_owned(),
        ] {
            assert!(matches!(refused(&limit), BrokerError::Unreachable { .. }), "{limit}");
        }
        assert!(matches!(refused(to), BrokerError::VirtualHostRefused { .. }));
    }
}
