//! The metrics that every process has.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use crate::labels::Gauges;
use crate::registry::Registry;

/// The families of every process.
#[derive(Debug)]
pub struct Process {
    /// `None` for a process that uses no database.
    database_up: Option<Gauge>,
}

/// The families of a process that works with the broker.
#[derive(Debug)]
pub struct Broker {
    up: Gauge,
    blocked: Gauge,
    queue_consumed: Gauges,
}

impl Process {
    /// Registers the families of a process that uses the database. `commit` is the commit that the
    /// program was built from, if it is known.
    pub fn new(
        registry: &mut Registry,
        version: &'static str,
        commit: Option<&'static str>,
    ) -> Self {
        let _build = Self::without_database(registry, version, commit);
        let up = registry.gauge(
            "database_up",
            "Whether the database answers and has the tables that this program needs",
        );
        Self { database_up: Some(up) }
    }

    /// The same for a process that uses no database.
    pub fn without_database(
        registry: &mut Registry,
        version: &'static str,
        commit: Option<&'static str>,
    ) -> Self {
        let mut build = vec![("version", version)];
        build.extend(commit.map(|commit| ("commit", commit)));
        registry.constant("build", "The program", Info::new(build));
        Self { database_up: None }
    }

    /// Notes whether the database can be used.
    pub fn database(&self, up: bool) {
        if let Some(database_up) = &self.database_up {
            database_up.set(i64::from(up));
        }
    }
}

impl Broker {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            up: registry.gauge("broker_up", "Whether this process has a session with the broker"),
            blocked: registry.gauge("broker_blocked", "Whether the broker takes no messages because it is short of memory or disk"),
            queue_consumed: registry.family(
                "queue_consumed",
                "Whether this process takes the messages of a queue that it is to consume; 0 while it \
                 can't",
                Gauges::default(),
            ),
        }
    }

    /// Notes whether this process receives a queue's messages.
    pub fn queue(&self, queue: &'static str, consumed: bool) {
        self.queue_consumed.get_or_create(&[("queue", queue)]).set(i64::from(consumed));
    }

    /// Notes the state of the connection to the broker.
    pub fn state(&self, up: bool, blocked: bool) {
        self.up.set(i64::from(up));
        self.blocked.set(i64::from(blocked));
    }
}
