//! The shared parts of a run: the servers, the sink, and the binary that is measured.

use std::path::PathBuf;

use anyhow::Result;
use fanfare_testkit::build::workspace;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::service::{Home, Logs};

use crate::progress::say;
use crate::sink::Sink;

/// The servers and the sink. They end when it is dropped.
pub(crate) struct Stage {
    /// The binary that is measured.
    pub(crate) binary: PathBuf,
    pub(crate) home: Home,
    logs: Logs,
    /// Private servers.
    pub(crate) servers: Servers,
    pub(crate) sink: Sink,
    n_worlds: usize,
}

impl Stage {
    /// Starts the servers and the sink.
    pub(crate) async fn start(binary: PathBuf) -> Result<Self> {
        let folder = workspace().join("target/bench");
        let logs = Logs::create(&folder)?;
        say("starting PostgreSQL, RabbitMQ, and the sink");
        let servers = Servers::start(&folder)?;
        let home = Home::new(&servers, &logs);
        let sink = Sink::start(&home).await?;
        Ok(Self { binary, home, logs, servers, sink, n_worlds: 0 })
    }

    /// A name for a database and a virtual host.
    pub(crate) fn next_name(&mut self) -> String {
        self.n_worlds += 1;
        format!("bench_{}", self.n_worlds)
    }

    /// Runs a statement, and returns the result as text.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Result<String> {
        self.servers.endpoints().sql(database, statement)
    }

    /// Stops all processes and waits for their end. The logs are kept if the run has `failed`.
    pub(crate) async fn end(self, failed: bool) {
        say("ending everything");
        self.sink.end().await;
        self.servers.stop();
        self.logs.end(failed);
    }
}
