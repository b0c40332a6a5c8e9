//! `/api/v1`: deliveries, events, dead letters, statistics, and changes of webhooks.

mod audit;
mod dead_letters;
mod deliveries;
mod described;
mod events;
mod limits;
mod mend;
mod operations;
mod pages;
mod recover;
mod secrets;
mod test_events;

use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use serde_json::{Value, json};

use crate::api::client::{Answer, send};
use crate::api::password;
use crate::world::{SOON, World, event};

/// An id that does not exist.
const NOBODY_S: &str = "00000000000000000000000000000007";

/// An installation with a console.
pub(crate) struct Api {
    // Dropped before `world`, whose servers it uses.
    _console: Process,
    pub(crate) world: World,
    address: SocketAddr,
}

/// A user with an access token.
pub(crate) struct User {
    address: SocketAddr,
    token: String,
}

impl Api {
    /// An installation with `root`, a System Administrator, and `anna` and `bob`, who may read all
    /// tasks. Each has an account.
    pub(crate) async fn start() -> Self {
        Self::on(World::new().await).await
    }

    /// The same on a world with other settings.
    pub(crate) async fn on(world: World) -> Self {
        let world = world.with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
        let console = world.spawn("console");
        let line = console.wait_for_line("listening on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        let reads = json!([{ "access": ["read"], "scope": "any-task" }]);
        world
            .directory(&json!({
                "users": [
                    { "name": "root", "roles": ["System Administrator"] },
                    { "name": "anna", "permissions": reads },
                    { "name": "bob", "permissions": reads },
                ],
                "roles": [],
            }))
            .await;
        for (name, more) in [("root", ["--admin"].as_slice()), ("anna", &[]), ("bob", &[])] {
            let args = ["users", "add", name, "--password-stdin"];
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            world.fanfare_with(&args, Some(&password(name))).await;
        }
        Self { _console: console, world, address }
    }

    pub(crate) async fn sign_in(&self, name: &str) -> User {
        let form = format!("grant_type=password&username={name}&password={}", password(name));
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = send(self.address, "POST", "/Token", &kind, form.as_bytes()).await.unwrap();
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        User { address: self.address, token }
    }

    /// Publishes an event and waits until it is delivered to each of these webhooks; returns it.
    async fn delivered(&self, webhooks: &[&str]) -> Value {
        let event = event();
        self.world.publish(&event).await;
        let id = event["id"].as_str().unwrap();
        fanfare_testkit::wait::eventually("the event is delivered", SOON, async || {
            let list = ["deliveries", "list", "--event", id, "--state", "delivered"];
            let list = self.world.json(&list).await;
            let all = webhooks.iter().all(|id| list.to_string().contains(id));
            if all { Ok(()) } else { Err(list) }
        })
        .await;
        event
    }
}

impl User {
    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        send(self.address, method, path, &headers, body.as_bytes()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// The JSON of a request that must succeed.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string()).await
    }
}

/// Checks that a request was refused, with this kind of problem; returns the problem.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["type"], format!("/problems/{code}"), "{problem}");
    assert_eq!(problem["status"], json!(status));
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    problem
}

/// The names of the request's invalid members, from the problem document.
fn wrong(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["name"].as_str().unwrap()).collect()
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
