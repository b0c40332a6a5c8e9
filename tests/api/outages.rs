//! The console while the database is unavailable.

use std::time::Duration;

use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::{Api, REGISTRATIONS};
use crate::world::{SOON, World};

/// A console whose database can be cut off.
async fn behind_a_proxy(ready: impl AsyncFnOnce(&mut Proxy)) -> (Api, Proxy) {
    let (world, mut proxy) = World::new().await.with_database_proxy();
    ready(&mut proxy).await;
    (Api::on(world).await, proxy)
}

#[tokio::test]
async fn console_starts_and_answers_while_the_database_is_unavailable() {
    let (api, mut proxy) = behind_a_proxy(async |proxy| proxy.cut().await).await;
    api.process.wait_for_line("waiting for the database", SOON).await;
    let away = "The service can't reach its database for now. Try again later.";
    let bearer = [("Authorization", "Bearer abc")];
    let answer = super::send(api.address, "GET", REGISTRATIONS, &bearer, b"").await.unwrap();
    answer.is(503, Some(&json!({ "Message": away })));
    assert!(answer.header("retry-after").is_some());
    let answer = api.token("grant_type=password&username=anna&password=anna-of-the-tests").await;
    let expected = json!({ "error": "temporarily_unavailable", "error_description": away });
    answer.is(503, Some(&expected));
    // A request without a token is refused without the database.
    assert_eq!(api.ask("GET", REGISTRATIONS).await.status, 401);

    proxy.resume();
    api.process.wait_for_line("the database answers again", SOON).await;
    let anna = api.user("anna", &[]).await;
    let id = anna.registered().await;
    proxy.cut().await;
    assert_eq!(anna.get(REGISTRATIONS).await.status, 503);
    proxy.resume();
    eventually("the webhook is listed again", SOON, async || {
        let answer = anna.get(REGISTRATIONS).await;
        if answer.status == 200 && answer.body.contains(&id) { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn console_stops_while_the_database_does_not_answer() {
    let (mut api, proxy) = behind_a_proxy(async |_| ()).await;
    let token = api.user("anna", &[]).await.token;
    proxy.freeze();
    let address = api.address;
    let asking = tokio::spawn(async move {
        let bearer = format!("Bearer {token}");
        super::send(address, "GET", REGISTRATIONS, &[("Authorization", &bearer)], b"").await
    });
    eventually("the request has reached the console", SOON, async || is_connected(address.port()))
        .await;
    api.process.terminate();
    assert!(api.process.wait_exit(Duration::from_secs(29)).await.success());
    // The request was aborted without an answer.
    assert!(asking.await.unwrap().is_err());
}

/// Whether this local port has an established connection: state 01 of `/proc/net/tcp`.
fn is_connected(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && fields[3] == "01"
    })
}
