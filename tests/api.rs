//! The webhooks API, used as clients that were written for the report server use it.

mod accounts;
pub(crate) mod client;
mod import;
mod leniency;
mod limits;
mod others;
mod outages;
mod refusals;
mod registrations;
mod slots;
mod tokens;
mod verification;

use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use serde_json::{Value, json};

use crate::world::{SOON, World};
use client::{Answer, send};

const REGISTRATIONS: &str = "/api/webhooks/registrations";

/// An address that needs no verification, and to which no request is sent.
const QUIET: &str = "http://192.0.2.1/hook?noecho";

/// An installation with a console.
struct Api {
    world: World,
    process: Process,
    address: SocketAddr,
}

/// The password of the test account `name`.
pub(crate) fn password(name: &str) -> String {
    format!("{name}-of-the-tests")
}

/// A user with an access token.
struct User<'a> {
    api: &'a Api,
    token: String,
}

impl Api {
    async fn start() -> Self {
        Self::on(World::new().await).await
    }

    async fn on(world: World) -> Self {
        let world =
            world.with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0").with("FANFARE_LOG", "debug");
        let process = world.spawn("console");
        let line = process.wait_for_line("listening on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { world, process, address }
    }

    /// Sends a request without a token.
    async fn ask(&self, method: &str, path: &str) -> Answer {
        send(self.address, method, path, &[], b"").await.unwrap()
    }

    /// Sends a form to `/Token`.
    async fn token(&self, form: &str) -> Answer {
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        send(self.address, "POST", "/Token", &kind, form.as_bytes()).await.unwrap()
    }

    /// Adds an account with its [`password`].
    async fn add(&self, name: &str, more: &[&str]) {
        let args = ["users", "add", name, "--password-stdin"];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        self.world.fanfare_with(&args, Some(&password(name))).await;
    }

    /// Adds an account and signs it in.
    async fn user(&self, name: &str, more: &[&str]) -> User<'_> {
        self.add(name, more).await;
        self.sign_in(name).await
    }

    async fn sign_in(&self, name: &str) -> User<'_> {
        let form = format!("grant_type=password&username={name}&password={}", password(name));
        let answer = self.token(&form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        User { api: self, token }
    }
}

impl User<'_> {
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        send(self.api.address, method, path, &headers, body).await.unwrap()
    }

    /// The same with another content type, or with none if `kind` is empty.
    async fn send_as(&self, kind: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend((!kind.is_empty()).then_some(("Content-Type", kind)));
        send(self.api.address, method, path, &headers, body).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, b"").await
    }

    async fn post(&self, webhook: &Value) -> Answer {
        self.send("POST", REGISTRATIONS, webhook.to_string().as_bytes()).await
    }

    async fn put(&self, id: &str, webhook: &Value) -> Answer {
        self.send("PUT", &of(id), webhook.to_string().as_bytes()).await
    }

    /// Registers a webhook that needs no verification; returns it.
    async fn register(&self) -> Value {
        let answer = self.post(&json!({ "WebHookUri": QUIET })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Registers a webhook and returns its id.
    async fn registered(&self) -> String {
        id(&self.register().await).to_owned()
    }

    /// The ids of the webhooks in a list.
    async fn ids(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("{REGISTRATIONS}{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_array().unwrap().iter().map(|one| id(one).to_owned()).collect()
    }
}

fn of(id: &str) -> String {
    format!("{REGISTRATIONS}/{id}")
}

fn id(webhook: &Value) -> &str {
    webhook["Id"].as_str().unwrap()
}

/// The answer's body when a webhook can't be registered for this reason.
fn failure(reason: &str) -> Value {
    json!({ "Message": format!("Could not register WebHook due to error: {reason}") })
}
