//! Where the broker is and how this process calls itself there.

use crate::error::BrokerError;
use crate::host::{BrokerHost, unusable};
use crate::hosts::Hosts;
use crate::queue_health::QueueHealth;
use crate::topology::Queue;
use crate::wire::room::Room;
use fanfare_core::hosts;
use fanfare_core::shard::ShardCount;
use std::fmt;
use std::sync::Arc;

/// The broker's hosts and this process's name there. Clones know the same of the hosts.
#[derive(Clone)]
pub struct Config {
    hosts: Arc<Hosts>,
    name: String,
    broker: String,
    delivery_queues: ShardCount,
    queue_health: Arc<QueueHealth>,
    room: Room,
    /// The queue that sessions don't declare.
    undeclared: Option<Queue>,
}

impl Config {
    /// Reads an address such as `amqp://user:password@host:5672/vhost` or `amqps://…`. The default
    /// virtual host is `/` (also for an address that ends in a slash). Several hosts, such as the
    /// nodes of a cluster, stand between commas, `host1:5672,host2`: a process begins with any of
    /// them, and goes to another one when it fails.
    ///
    /// In the query can be set `heartbeat` (seconds), `connection_timeout` (milliseconds) and
    /// `frame_max` (bytes), and for `amqps` the files `cacertfile`, `certfile` and `keyfile`, `verify` (`verify_peer`, which
    /// is the default, or `verify_none`) and `server_name_indication`.
    ///
    /// `name` is what operators see as the connection's name, such as `fanfare-router@host`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Address`], which says what is wrong, without the address;
    /// [`BrokerError::Tls`] when a file can't be used.
    pub fn new(address: &str, name: &str) -> Result<Self, BrokerError> {
        let addresses = split_hosts(address)?;
        let parse = |address: &String| match addresses.len() {
            1 => BrokerHost::parse(address),
            _ => BrokerHost::parse_one_of_several(address),
        };
        let hosts = addresses.iter().map(parse).collect::<Result<Vec<BrokerHost>, _>>()?;
        for secure in hosts.iter().filter_map(|host| host.secure.as_ref()) {
            // Checked when the process starts, so that an error is reported then and not at the connect.
            secure.tls.client_config().map_err(BrokerError::Tls)?;
        }
        let broker = hosts.iter().map(|host| host.label.as_str()).collect::<Vec<_>>().join("; ");
        let delivery_queues = ShardCount::ONE;
        let (hosts, name) = (Arc::new(Hosts::new(hosts)), name.to_owned());
        let (queue_health, room) = (Arc::default(), Room::default());
        let undeclared = None;
        Ok(Self { hosts, name, broker, delivery_queues, queue_health, room, undeclared })
    }

    /// The same with this number of delivery queues instead of one.
    #[must_use]
    pub fn with_delivery_queues(self, delivery_queues: ShardCount) -> Self {
        Self { delivery_queues, ..self }
    }

    /// The same with sessions that declare every queue but this one. The caller declares it, and can
    /// find out before that whether the broker has lost it.
    #[must_use]
    pub fn without_declaring(self, queue: Queue) -> Self {
        Self { undeclared: Some(queue), ..self }
    }

    /// The same with sessions that declare every queue.
    #[must_use]
    pub fn declaring_all(self) -> Self {
        Self { undeclared: None, ..self }
    }

    /// The queue that sessions don't declare.
    pub(crate) fn undeclared(&self) -> Option<Queue> {
        self.undeclared
    }

    /// The delivery queues that jobs are spread over and taken from.
    #[must_use]
    pub fn delivery_queues(&self) -> ShardCount {
        self.delivery_queues
    }

    /// Which queues this process consumes, and which of them it can't; clones share it.
    #[must_use]
    pub fn queue_health(&self) -> &Arc<QueueHealth> {
        &self.queue_health
    }

    /// The memory for large messages from the broker; clones share it.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Hosts, ports and virtual host, for people to read.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The name that operators see.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hosts, and the one that this process prefers now; clones share it.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
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

/// The same address for each of its hosts.
fn split_hosts(address: &str) -> Result<Vec<String>, BrokerError> {
    let Some((before, hosts, after)) = hosts::split(address) else {
        return Ok(vec![address.to_owned()]);
    };
    let of = |host: &str| match host.trim() {
        "" if hosts.contains(',') => Err(unusable("between two of its commas is no host")),
        host => Ok([before, host, after].concat()),
    };
    hosts.split(',').map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        let shown = Config::new(address, "test")
            .map_or_else(|error| error.to_string(), |config| config.broker().to_owned());
        assert_eq!(shown, expected);
    }

    #[test]
    fn reads_addresses() {
        check("amqp://localhost", "localhost:5672, virtual host /");
        check("amqp://anna:pw@10.0.0.1:7000/", "10.0.0.1:7000, virtual host /");
        let trusted = "amqps://mq.example/%2Fmain?verify=verify_none";
        check(trusted, "mq.example:5671, virtual host /main");
        check("amqp://anna:pw@[2001:db8::1]/a", "2001:db8::1:5672, virtual host a");
    }

    #[test]
    fn reads_several_hosts() {
        let config =
            Config::new("amqp://anna:p,w@one:1,[::1]:2,two/a?heartbeat=7", "test").unwrap();
        assert_eq!(
            config.broker(),
            "one:1, virtual host a; ::1:2, virtual host a; two:5672, virtual host a"
        );
        for number in config.hosts().order() {
            let host = config.hosts().get(number);
            assert_eq!(host.uri.authority.userinfo.password, "p,w");
            assert_eq!(host.uri.query.heartbeat, Some(7));
        }
    }

    #[test]
    fn dead_node_of_several_is_noticed_sooner() {
        let heartbeat = |address: &str| {
            let config = Config::new(address, "test").unwrap();
            let numbers = config.hosts().order();
            config.hosts().get(numbers[0]).uri.query.heartbeat
        };
        assert_eq!(heartbeat("amqp://one/a"), Some(20));
        assert_eq!(heartbeat("amqp://one,two/a"), Some(5));
        assert_eq!(heartbeat("amqp://one,two/a?heartbeat=60"), Some(60));
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
        check(
            "amqp://anna:hidden@a,,b/x",
            &format!("{not_usable}between two of its commas is no host"),
        );
    }

    #[test]
    fn debug_hides_the_password() {
        let config = Config::new("amqp://anna:hidden@host", "test").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
