//! The shared parts of a run: the servers, the sink, and the binary that is measured.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use fanfare_testkit::build::workspace;
use fanfare_testkit::servers::Servers;

use crate::process::Home;
use crate::progress::say;
use crate::sink::Sink;

/// The servers and the sink. They end when it is dropped.
pub(crate) struct Stage {
    /// The binary that is measured.
    pub(crate) binary: PathBuf,
    pub(crate) home: Home,
    pub(crate) servers: Servers,
    pub(crate) sink: Sink,
    n_worlds: usize,
}

impl Stage {
    /// Starts the servers and the sink.
    pub(crate) async fn start(binary: PathBuf) -> Result<Self> {
        let folder = workspace().join("target/bench");
        let logs = folder.join(format!("logs-{}", std::process::id()));
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        say("starting PostgreSQL, RabbitMQ, and the sink");
        let servers = Servers::start(&folder)?;
        let home = Home { folder: servers.folder().to_owned(), logs };
        let sink = Sink::start(&home).await?;
        Ok(Self { binary, home, servers, sink, n_worlds: 0 })
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
        if failed {
            eprintln!("the logs are in {}", self.home.logs.display());
        } else {
            let _ = fs::remove_dir_all(&self.home.logs);
        }
    }
}
