//! A database and a virtual host for one test.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::endpoints::Endpoints;
use crate::shared;
use crate::template;

/// The time limit of the cleaning at a test's end. The rest is removed with the servers.
const CLEANING: Duration = Duration::from_secs(3);

/// A private database and a private virtual host on the [shared](mod@crate::shared) servers. Both
/// are dropped with it, and connections to them are closed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sandbox {
    /// The URL of the database.
    pub database_url: String,
    /// The URL of the virtual host, which has nothing but the broker's own exchanges.
    pub amqp_url: String,
    name: String,
    endpoints: &'static Endpoints,
}

impl Sandbox {
    /// Makes a sandbox without any tables; the first one of a test run starts the servers.
    ///
    /// # Panics
    ///
    /// If there are no servers, or they refuse.
    pub async fn new() -> Self {
        Self::make(|_| Ok("template0".to_owned())).await
    }

    /// Makes a sandbox whose database the binary under test has migrated.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), and if there is no binary, or it can't migrate.
    pub async fn migrated() -> Self {
        Self::make(template::migrated).await
    }

    /// Runs one statement in the database and returns its rows as text, columns separated by `|`.
    /// It blocks for some 20 ms.
    pub fn sql(&self, statement: &str) -> Result<String> {
        self.endpoints.sql(&self.name, statement)
    }

    /// The servers, and the name that the virtual host and the database have there.
    #[must_use]
    pub fn on_servers(&self) -> (&'static Endpoints, &str) {
        (self.endpoints, &self.name)
    }

    async fn make(template: fn(&Endpoints) -> Result<String>) -> Self {
        match tokio::task::spawn_blocking(move || Self::copy_of(template)).await {
            Ok(Ok(sandbox)) => sandbox,
            Ok(Err(error)) => panic!("no sandbox for this test: {error:#}"),
            Err(error) => panic!("no sandbox for this test: {error}"),
        }
    }

    fn copy_of(template: fn(&Endpoints) -> Result<String>) -> Result<Self> {
        let endpoints = shared::endpoints();
        let template = template(endpoints)?;
        let name = format!("test_{}", Uuid::new_v4().simple());
        // Created first, so that it cleans up after a failure below.
        let sandbox = Self {
            database_url: endpoints.database_url(&name),
            amqp_url: endpoints.amqp_url(&name),
            name,
            endpoints,
        };
        endpoints.copy_database(&template, &sandbox.name)?;
        endpoints.create_vhost(&sandbox.name)?;
        Ok(sandbox)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let (sender, cleaned) = mpsc::channel();
        for clean in [Endpoints::drop_vhost, Endpoints::drop_database] {
            let (sender, name, endpoints) = (sender.clone(), self.name.clone(), self.endpoints);
            thread::spawn(move || {
                if let Err(error) = clean(endpoints, &name) {
                    eprintln!("cleaning after a test: {error:#}");
                }
                drop(sender);
            });
        }
        drop(sender);
        // Nothing is sent: this returns when both threads have dropped their senders, or in time.
        let _: Result<(), _> = cleaned.recv_timeout(CLEANING);
    }
}
