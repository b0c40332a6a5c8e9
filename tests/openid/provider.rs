//! The provider as a separate process, and the faults that a test can set.

use std::net::SocketAddr;
use std::path::Path;

use fanfare_testkit::process::Process;
use serde_json::{Value, json};

use super::CONSOLE;
use crate::api::client::{Answer, send_as};
use crate::node_env::node_script;
use crate::world::SOON;

/// An OpenID Connect provider.
pub(super) struct Provider {
    process: Process,
    address: SocketAddr,
}

impl Provider {
    /// Starts a provider; `apart` keeps claims about the user out of ID tokens, and only its
    /// user-info endpoint has them.
    pub(super) async fn start(apart: bool) -> Self {
        Self::on(0, apart).await
    }

    /// Starts a provider at a port.
    pub(super) async fn on(port: u16, apart: bool) -> Self {
        let script = node_script("tests/node/oidc", "provider.mjs", "target/tests-node/oidc");
        let settings = json!({ "port": port, "console": CONSOLE, "claimsApart": apart });
        let process = Process::spawn(
            Path::new("node"),
            &[script.to_str().unwrap()],
            [("OIDC_SETTINGS", settings.to_string().as_str())],
        );
        let line = process.wait_for_line("listening on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { process, address }
    }

    /// Its issuer identifier.
    pub(super) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it; returns its port.
    pub(super) fn stop(mut self) -> u16 {
        self.process.kill9();
        self.address.port()
    }

    /// Makes it sign with a new key from now on, and removes the former one.
    pub(super) async fn rotate(&self) {
        self.control("/test/rotate", &Value::Null).await;
    }

    /// Sets the fault of the ID tokens that it makes; null for none.
    pub(super) async fn forge(&self, how: &Value) {
        self.control("/test/forge", how).await;
    }

    /// Sets the fault of its answers; null for none.
    pub(super) async fn set_fault(&self, how: &Value) {
        self.control("/test/meddle", how).await;
    }

    /// A token with these claims.
    pub(super) async fn token(&self, how: &Value) -> String {
        self.control("/test/token", how).await.body
    }

    /// An access token for a program that acts for a user, from the token endpoint.
    pub(super) async fn access_token(&self, name: &str, audience: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&scope=webhooks&resource={audience}\
             &client_id=script-of-{name}&client_secret=script-secret"
        );
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = self.send("/token", &headers, &form).await;
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn control(&self, path: &str, body: &Value) -> Answer {
        let answer = self.send(path, &[], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = self.address.to_string();
        send_as(&host, self.address, "POST", path, headers, body.as_bytes()).await.unwrap()
    }
}
