//! Runs commands with a real database and a real broker.

use fanfare_broker::{Config, Queue, Session};
use fanfare_testkit::process::Output;
use fanfare_testkit::sandbox::Sandbox;
use serde_json::Value;

use crate::command::Cli;

/// Commands that all use the same database and virtual host.
pub(crate) struct CliWithServers {
    pub(crate) cli: Cli,
    pub(crate) sandbox: Sandbox,
}

impl CliWithServers {
    /// With an empty database.
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        Self { cli: Cli::with_urls(&sandbox.database_url, &sandbox.amqp_url), sandbox }
    }

    /// With a database that has the tables.
    pub(crate) async fn migrated() -> Self {
        let servers = Self::new().await;
        servers.ok(&["migrate"]);
        servers
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.cli.run(arguments)
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code(), Some(0), "{arguments:?}: {output:?}");
        output.stdout
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    pub(crate) async fn session(&self) -> Session {
        Session::open(&Config::new(&self.sandbox.amqp_url, "test").unwrap()).await.unwrap()
    }

    pub(crate) async fn depth(&self, queue: Queue) -> u32 {
        self.session().await.depth(queue).await.unwrap().ready
    }
}

#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
