//! One host of the broker: its address, parsed from a URL with RabbitMQ's own parameters.

use crate::error::BrokerError;
use crate::wire::{LARGEST_FRAME, LIBRARY_FRAME};
use fanfare_tls::{Check, Identity, Roots, Tls};
use lapin::uri::{AMQPScheme, AMQPUri};
use std::sync::atomic::AtomicBool;
use url::{Host, Position, Url};

/// The time-out of a connection: name resolution, TCP, TLS and login together.
pub(crate) const CONNECT_TIMEOUT_S: u64 = 10;

/// A dead connection is noticed within two of these.
const HEARTBEAT_S: u16 = 20;

/// The same where there is another node to go to. It is the least that RabbitMQ's guide advises;
/// below it, a busy network or broker is taken for a dead one.
const HEARTBEAT_OF_SEVERAL_S: u16 = 5;

/// The protocol's limit for names: user, virtual host, consumer.
const LONGEST_NAME: usize = 255;

/// What the protocol's library reads of the query by itself.
const READ_ELSEWHERE: [&str; 5] =
    ["heartbeat", "connection_timeout", "channel_max", "frame_max", "auth_mechanism"];

/// One host.
pub(crate) struct BrokerHost {
    /// The scheme is always the one without TLS, which is ours to add.
    pub(crate) uri: AMQPUri,
    /// Host, port and virtual host, for people to read.
    pub(crate) label: String,
    pub(crate) secure: Option<Secure>,
    /// The largest frame to agree on with the broker, in bytes; the one in `uri` is the library's.
    pub(crate) frame_max: u32,
    /// Whether it accepted the last connection and then did not answer.
    pub(crate) silent: AtomicBool,
}

/// How to speak TLS with it.
pub(crate) struct Secure {
    pub(crate) tls: Tls,
    /// The name that its certificate must have.
    pub(crate) server_name: String,
}

impl BrokerHost {
    /// Reads a URL with one host, which is the only one.
    pub(crate) fn parse(address: &str) -> Result<Self, BrokerError> {
        Self::with_heartbeat(address, HEARTBEAT_S)
    }

    /// Reads a URL with one host of several.
    pub(crate) fn parse_one_of_several(address: &str) -> Result<Self, BrokerError> {
        Self::with_heartbeat(address, HEARTBEAT_OF_SEVERAL_S)
    }

    /// `heartbeat` is the default, in seconds.
    fn with_heartbeat(address: &str, heartbeat: u16) -> Result<Self, BrokerError> {
        let url = Url::parse(address).map_err(|error| unusable(&error.to_string()))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(unusable("it must begin with amqp:// or amqps://"));
        }
        // In `anna:12/pw@mq` the password has a character that should have been escaped. It would be
        // read as a part of the virtual host, which is logged.
        if url[Position::AfterHost..].contains('@') {
            return Err(unusable(
                "it has an @ behind its host; in a user, a password or a virtual host write @ as %40, \
                 / as %2F, ? as %3F and # as %23",
            ));
        }
        let mut uri: AMQPUri = address
            .parse()
            .map_err(|_| unusable("it should look like amqp://user:password@host:5672/vhost"))?;
        uri.authority.host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host.to_owned(),
            Some(Host::Ipv4(host)) => host.to_string(),
            // The protocol library treats an IPv6 address as a missing host, and a missing host as
            // localhost.
            Some(Host::Ipv6(host)) => host.to_string(),
            _ => return Err(unusable("it names no host")),
        };
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        if uri.vhost.len() > LONGEST_NAME || uri.authority.userinfo.username.len() > LONGEST_NAME {
            return Err(unusable("its user or virtual host is longer than 255 bytes"));
        }
        uri.query.heartbeat.get_or_insert(heartbeat);
        uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_S * 1000);
        let frame_max = uri.query.frame_max.filter(|max| *max > 0).unwrap_or(LARGEST_FRAME);
        uri.query.frame_max = Some(frame_max.min(LIBRARY_FRAME));
        let secure = secure(&url, &uri)?;
        uri.scheme = AMQPScheme::AMQP;
        let label =
            format!("{}:{}, virtual host {}", uri.authority.host, uri.authority.port, uri.vhost);
        Ok(Self { uri, label, secure, frame_max, silent: AtomicBool::new(false) })
    }

    /// The user that logs in.
    pub(crate) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

/// Reads the TLS parameters of the query. An unknown parameter is an error, because a misspelled one
/// would silently turn off a check.
fn secure(url: &Url, uri: &AMQPUri) -> Result<Option<Secure>, BrokerError> {
    let (mut roots, mut certificate, mut key) = (None, None, None);
    let mut check = Check::SignatureAndName;
    let mut server_name = uri.authority.host.clone();
    let encrypted = uri.scheme == AMQPScheme::AMQPS;
    for (name, value) in url.query_pairs() {
        if READ_ELSEWHERE.contains(&name.as_ref()) {
            continue;
        }
        match (name.as_ref(), value.as_ref()) {
            ("cacertfile", path) => roots = Some(path.into()),
            ("certfile", path) => certificate = Some(path.into()),
            ("keyfile", path) => key = Some(path.into()),
            ("verify", "verify_peer") => check = Check::SignatureAndName,
            ("verify", "verify_none") => check = Check::Nothing,
            ("verify", _) => return Err(unusable("verify must be verify_peer or verify_none")),
            ("server_name_indication", name) => name.clone_into(&mut server_name),
            (unknown, _) => return Err(unusable(&format!("it has the unknown part {unknown:?}"))),
        }
        if !encrypted {
            return Err(unusable(&format!("{name} is for amqps://, and it begins with amqp://")));
        }
    }
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        _ => return Err(unusable("certfile and keyfile must be given together")),
    };
    let roots = roots.map_or(Roots::System, Roots::File);
    Ok(encrypted.then_some(Secure { tls: Tls { check, roots, identity }, server_name }))
}

pub(crate) fn unusable(reason: &str) -> BrokerError {
    BrokerError::Address { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secure(address: &str) -> Option<Secure> {
        BrokerHost::parse(address).unwrap().secure
    }

    #[test]
    fn tls_is_described_in_rabbitmq_s_words() {
        assert!(secure("amqp://mq").is_none());
        let plain = secure("amqps://mq.example").unwrap();
        assert_eq!(plain.server_name, "mq.example");
        assert_eq!((plain.tls.check, plain.tls.roots), (Check::SignatureAndName, Roots::System));
        let full = secure(
            "amqps://10.0.0.1/a?cacertfile=%2Fa%20b&certfile=/c&keyfile=/k&heartbeat=5\
             &server_name_indication=mq&verify=verify_none",
        )
        .unwrap();
        assert_eq!((full.server_name.as_str(), full.tls.check), ("mq", Check::Nothing));
        assert_eq!(full.tls.roots, Roots::File("/a b".into()));
        let identity = Identity { certificate: "/c".into(), key: "/k".into() };
        assert_eq!(full.tls.identity, Some(identity));
    }

    #[test]
    fn a_password_that_is_not_escaped_is_refused_instead_of_shown_as_a_virtual_host() {
        for address in [
            "amqp://a:12/hidden@mq",
            "amqp://a:/hidden@mq/v",
            "amqp://a:1?hidden@mq",
            "amqp://a#hidden@",
        ] {
            let error = BrokerHost::parse(address).map(drop).unwrap_err().to_string();
            assert!(error.contains("/ as %2F") && !error.contains("hidden"), "{error}");
        }
        assert_eq!(BrokerHost::parse("amqp://a:b@mq/a%40b").unwrap().uri.vhost, "a@b");
    }

    #[test]
    fn words_that_would_be_passed_over_are_refused() {
        for (address, said) in [
            ("amqps://a:hidden@mq?cacertfle=/ca", "unknown part \"cacertfle\""),
            ("amqp://a:hidden@mq?cacertfile=/ca", "cacertfile is for amqps://"),
            ("amqps://a:hidden@mq?certfile=/c", "given together"),
            ("amqps://a:hidden@mq?verify=full", "verify_peer or verify_none"),
        ] {
            let error = BrokerHost::parse(address).map(drop).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hidden"), "{error}");
        }
    }
}
