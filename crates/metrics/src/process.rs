//! The metrics of every process.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use crate::labels::Gauges;
use crate::registry::Registry;

/// The families of every process.
#[derive(Debug)]
pub struct Process {
    database_up: Gauge,
}

/// The families of a process that works with the broker.
#[derive(Debug)]
pub struct Broker {
    up: Gauge,
    blocked: Gauge,
    queue_consumed: Gauges,
}

impl Process {
    /// Registers the families. `commit` is the commit that the program was built from, if it is
    /// known.
    pub fn new(
        registry: &mut Registry,
        version: &'static str,
        commit: Option<&'static str>,
    ) -> Self {
        let mut build = vec![("version", version)];
        build.extend(commit.map(|commit| ("commit", commit)));
        registry.constant("build", "The program", Info::new(build));
        Self {
            database_up: registry.family(
                "database_up",
                "Whether the database answers and has the tables that this program needs",
                Gauge::default(),
            ),
        }
    }

    /// Sets whether the database can be used.
    pub fn database(&self, up: bool) {
        self.database_up.set(i64::from(up));
    }
}

impl Broker {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            up: registry.family(
                "broker_up",
                "Whether this process has a session with the broker",
                Gauge::default(),
            ),
            blocked: registry.family(
                "broker_blocked",
                "Whether the broker accepts no messages because it is short of memory or disk",
                Gauge::default(),
            ),
            queue_consumed: registry.family(
                "queue_consumed",
                "Whether this process receives the messages of a queue that it should consume; 0 while \
                 it can't",
                Gauges::default(),
            ),
        }
    }

    /// Sets whether the messages of a queue arrive.
    pub fn queue(&self, queue: &'static str, consumed: bool) {
        self.queue_consumed.get_or_create(&[("queue", queue)]).set(i64::from(consumed));
    }

    /// Sets the state of the session with the broker.
    pub fn state(&self, up: bool, blocked: bool) {
        self.up.set(i64::from(up));
        self.blocked.set(i64::from(blocked));
    }
}
