//! The accounts of publishers, their tokens, and other methods.

use fanfare_testkit::process::Process;
use futures_util::future::join_all;
use serde_json::json;

use super::{Publishing, accepted, add, problem};
use crate::api::client::{Answer, send};
use crate::api::password;
use crate::metrics::{Watched, listening};
use crate::world::{SOON, World, event};

async fn with_token(publishing: &Publishing, token: &str) -> Answer {
    let headers = [("Authorization", token), ("Content-Type", super::SINGLE)];
    let body = event().to_string();
    send(publishing.address, "POST", "/events", &headers, body.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn only_tokens_of_publishers_are_accepted_until_they_are_revoked() {
    let publishing = Publishing::start().await;
    let world = &publishing.world;
    let _router = world.start("router").await;
    accepted(&publishing.event(&event()).await, 1);

    // The password and the token of an administrator are not those of a publisher.
    let args = ["users", "add", "root", "--admin", "--password-stdin"];
    world.fanfare_with(&args, Some(&password("root"))).await;
    let form = format!("grant_type=password&username=root&password={}", password("root"));
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let granted = send(publishing.address, "POST", "/Token", &kind, form.as_bytes()).await.unwrap();
    let session = format!("Bearer {}", granted.json()["access_token"].as_str().unwrap());
    for (token, challenge) in [
        (session.as_str(), "Bearer error=\"invalid_token\""),
        ("Bearer fpub_x", "Bearer error=\"invalid_token\""),
        ("Bearer", "Bearer"),
        ("Basic bWFpbjp4", "Bearer"),
        (publishing.token.as_str(), "Bearer"),
    ] {
        let answer = with_token(&publishing, token).await;
        problem(&answer, 401);
        assert!(answer.header("www-authenticate").unwrap().starts_with(challenge), "{answer:?}");
    }
    // A publisher's token opens nothing else.
    let bearer = format!("Bearer {}", publishing.token);
    let headers = [("Authorization", bearer.as_str())];
    for path in ["/api/webhooks/registrations", "/api/v1/events"] {
        let answer = send(publishing.address, "GET", path, &headers, b"").await.unwrap();
        assert_eq!(answer.status, 401, "{answer:?}");
    }

    // A second account, so that a token can be changed without a pause.
    let second = format!("Bearer {}", add(world, "main 2").await);
    assert!(world.run(&["publishers", "add", "MAIN"], None).await.stderr.contains("revoke"));
    world.fanfare(&["publishers", "revoke", "main"]).await;
    problem(&publishing.event(&event()).await, 401);
    assert_eq!(with_token(&publishing, &second).await.status, 202);
    let listed = world.json(&["publishers", "list"]).await;
    let [first, other] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&first["name"], &other["name"]), (&json!("main"), &json!("main 2")));
    assert!(first["revokedAt"].is_string() && first["lastUsedAt"].is_string(), "{first}");
    assert!(other["revokedAt"].is_null() && other["lastUsedAt"].is_string(), "{other}");
    assert!(world.fanfare(&["doctor"]).await.contains("1 may publish over HTTP"));
    // The name is free again.
    add(world, "main").await;

    let stored = world.sql("select * from publishers");
    let lines = publishing.console.lines().concat();
    assert!(!stored.contains(&publishing.token) && !lines.contains(&publishing.token));
}

#[tokio::test]
async fn wrong_tokens_are_throttled_and_a_known_token_is_not() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    accepted(&publishing.event(&event()).await, 1);
    let here = &publishing;
    let tries = (0..400).map(|n| async move { with_token(here, &format!("Bearer {n}")).await });
    let answers = join_all(tries).await;
    let throttled: Vec<&Answer> = answers.iter().filter(|it| it.status == 429).collect();
    assert!(!throttled.is_empty() && answers.iter().all(|it| [401, 429].contains(&it.status)));
    problem(throttled[0], 429);
    assert!(throttled[0].header("retry-after").is_some());
    accepted(&publishing.event(&event()).await, 1);
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let publishing = Publishing::start().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
        let answer = send(publishing.address, method, "/events", &[], b"").await.unwrap();
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        let allowed: Vec<&str> = answer.headers("allow").collect();
        assert_eq!(allowed, ["OPTIONS, POST"], "{method}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{method}");
    }
    let answer = send(publishing.address, "OPTIONS", "/events", &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (204, Some("OPTIONS, POST")));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

/// The metrics of a console count what its publishers send.
#[tokio::test]
async fn metrics_count_accepted_refused_and_unconfirmed() {
    let world = listening(World::new().await).with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
    let token = add(&world, "main").await;
    let mut watched = Watched::start(&world, "console").await;
    let address = address_of(watched.process()).await;
    let bearer = format!("Bearer {token}");
    let post = async |kind: &str, body: serde_json::Value| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        send(address, "POST", "/events", &headers, body.to_string().as_bytes()).await.unwrap()
    };
    let mut router = world.start("router").await;
    assert_eq!(post(super::BATCH, json!([event(), 7, event()])).await.status, 202);
    assert_eq!(post(super::SINGLE, json!({})).await.status, 422);
    router.terminate();
    router.wait_exit(SOON).await;
    world.amqp().await.delete("fanfare.events").await.unwrap();
    assert_eq!(post(super::SINGLE, event()).await.status, 503);
    watched
        .exports(&[
            ("http_events_accepted_total", 2.0),
            ("http_events_refused_total{reason=\"not-cloudevents\"}", 1.0),
            ("http_events_refused_total{reason=\"missing-attribute\"}", 1.0),
            ("http_events_refused_total{reason=\"bad-type\"}", 0.0),
            ("http_publishes_unconfirmed_total{cause=\"unroutable\"}", 1.0),
            ("http_publishes_unconfirmed_total{cause=\"unavailable\"}", 0.0),
        ])
        .await;
}

async fn address_of(console: &Process) -> std::net::SocketAddr {
    let line = console.wait_for_line("listening on http://", SOON).await;
    line.rsplit("http://").next().unwrap().trim().parse().unwrap()
}
