//! Where the broker is and how this process calls itself there.

use crate::error::BrokerError;
use lapin::uri::AMQPUri;
use std::fmt;
use url::{Host, Url};

/// How long a connection may take to be open: name, TCP, TLS and login together.
pub(crate) const CONNECT_TIMEOUT_S: u64 = 10;

/// A dead connection is noticed within two of these.
const HEARTBEAT_S: u16 = 20;

/// The protocol's limit for names: user, virtual host, consumer.
const LONGEST_NAME: usize = 255;

/// The broker's address and this process's name there.
#[derive(Clone)]
pub struct Config {
    uri: AMQPUri,
    name: String,
    broker: String,
}

impl Config {
    /// Reads an address such as `amqp://user:password@host:5672/vhost` or `amqps://…`. The default
    /// virtual host is `/` (also for an address that ends in a slash); `heartbeat` (seconds) and
    /// `connection_timeout` (milliseconds) can be set in the query.
    ///
    /// `name` is what operators see as the connection's name, such as `fanfare-router@host`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Address`], which tells what is wrong but never repeats the address.
    pub fn new(address: &str, name: &str) -> Result<Self, BrokerError> {
        let url = Url::parse(address).map_err(|error| unusable(&error.to_string()))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(unusable("it must begin with amqp:// or amqps://"));
        }
        let mut uri: AMQPUri = address
            .parse()
            .map_err(|_| unusable("it should look like amqp://user:password@host:5672/vhost"))?;
        uri.authority.host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host.to_owned(),
            Some(Host::Ipv4(host)) => host.to_string(),
            // The protocol library takes an IPv6 address for a missing host, and that for this one.
            Some(Host::Ipv6(host)) => host.to_string(),
            _ => return Err(unusable("it names no host")),
        };
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        if uri.vhost.len() > LONGEST_NAME || uri.authority.userinfo.username.len() > LONGEST_NAME {
            return Err(unusable("its user or virtual host is longer than 255 bytes"));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_S * 1000);
        let broker =
            format!("{}:{}, virtual host {}", uri.authority.host, uri.authority.port, uri.vhost);
        Ok(Self { uri, name: name.to_owned(), broker })
    }

    /// Host, port and virtual host, for people to read.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The name that operators see.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user that logs in.
    pub(crate) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.uri
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("broker", &self.broker)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn unusable(reason: &str) -> BrokerError {
    BrokerError::Address { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        let told = Config::new(address, "test")
            .map_or_else(|error| error.to_string(), |config| config.broker().to_owned());
        assert_eq!(told, expected);
    }

    #[test]
    fn reads_addresses() {
        check("amqp://localhost", "localhost:5672, virtual host /");
        check("amqp://anna:pw@10.0.0.1:7000/", "10.0.0.1:7000, virtual host /");
        check("amqps://mq.example/%2Fmain", "mq.example:5671, virtual host /main");
        check("amqp://anna:pw@[2001:db8::1]/a", "2001:db8::1:5672, virtual host a");
    }

    #[test]
    fn refuses_without_repeating() {
        let not_usable = "the broker's address is not usable: ";
        check(
            "http://anna:hidden@x",
            &format!("{not_usable}it must begin with amqp:// or amqps://"),
        );
        check("amqp:///a", &format!("{not_usable}it names no host"));
        check("hidden", &format!("{not_usable}relative URL without a base"));
    }

    #[test]
    fn debug_hides_the_password() {
        let config = Config::new("amqp://anna:hidden@host", "test").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
