//! Runs commands with a real database and a real broker.

use fanfare_broker::{Config, Queue, Session};
use fanfare_testkit::sandbox::Sandbox;
use serde_json::Value;

use crate::command::{Ended, Place};

/// Commands that all use the same database and virtual host.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) sandbox: Sandbox,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self { place: Place::new(), sandbox: Sandbox::new().await }
    }

    /// A world whose database has the tables.
    pub(crate) async fn migrated() -> Self {
        let world = Self::new().await;
        world.ok(&["migrate"]);
        world
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let variables = [
            ("FANFARE_DATABASE_URL", self.sandbox.database_url.as_str()),
            ("FANFARE_AMQP_URL", self.sandbox.amqp_url.as_str()),
        ];
        self.place.run_with(&variables, arguments)
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
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
