//! The provider, as a process of its own, and what else it can be told to do.

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
    /// Starts one; `apart` keeps claims out of ID tokens, for whoever asks for more about the user.
    pub(super) async fn start(apart: bool) -> Self {
        Self::on(0, apart).await
    }

    /// Starts one at a port.
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

    /// What it calls itself.
    pub(super) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it. Returns its port.
    pub(super) fn stop(mut self) -> u16 {
        self.process.kill9();
        self.address.port()
    }

    /// Has it sign with a new key from now on, and forget the former.
    pub(super) async fn rotate(&self) {
        self.tell("/test/rotate", &Value::Null).await;
    }

    /// Has it make the ID tokens of all sign-ins so; null for as they should be.
    pub(super) async fn forge(&self, how: &Value) {
        self.tell("/test/forge", how).await;
    }

    /// Has it answer otherwise than a provider should; null for as it should.
    pub(super) async fn meddle(&self, how: &Value) {
        self.tell("/test/meddle", how).await;
    }

    /// A token with these claims.
    pub(super) async fn token(&self, how: &Value) -> String {
        self.tell("/test/token", how).await.body
    }

    /// An access token for a program that acts for a user, got as programs do.
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

    async fn tell(&self, path: &str, body: &Value) -> Answer {
        let answer = self.send(path, &[], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = self.address.to_string();
        send_as(&host, self.address, "POST", path, headers, body.as_bytes()).await.unwrap()
    }
}
