//! `POST /events`: publishing for report servers that don't speak AMQP.

mod accounts;
mod broker;
mod clients;
mod modes;
mod refusals;

use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use serde_json::Value;

use crate::api::client::{Answer, send};
use crate::world::{SOON, World};

const SINGLE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// An installation with a console and a publisher.
struct Publishing {
    world: World,
    console: Process,
    address: SocketAddr,
    token: String,
}

impl Publishing {
    async fn start() -> Self {
        Self::on(World::new().await).await
    }

    async fn on(world: World) -> Self {
        let world = world.with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
        let token = add(&world, "main").await;
        let console = world.spawn("console");
        let line = console.wait_for_line("listening on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { world, console, address, token }
    }

    /// Sends a request with the publisher's token.
    async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        send(self.address, "POST", "/events", &headers, body).await.unwrap()
    }

    /// Publishes an event in structured mode.
    async fn event(&self, event: &Value) -> Answer {
        self.post(&[("Content-Type", SINGLE)], event.to_string().as_bytes()).await
    }

    /// Publishes a batch.
    async fn batch(&self, events: &Value) -> Answer {
        self.post(&[("Content-Type", BATCH)], events.to_string().as_bytes()).await
    }
}

/// Adds a publisher; returns its token.
async fn add(world: &World, name: &str) -> String {
    let added = world.json(&["publishers", "add", name]).await;
    added["token"].as_str().unwrap().to_owned()
}

/// Checks that all of a request's events are accepted.
#[track_caller]
fn accepted(answer: &Answer, events: usize) {
    let expected = serde_json::json!({ "accepted": events, "refused": [] });
    answer.is(202, Some(&expected));
}

/// The problem of an answer with this status.
#[track_caller]
fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], status);
    problem
}
