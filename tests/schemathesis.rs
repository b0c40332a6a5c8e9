//! The description of the APIs, tried out by schemathesis: whatever is sent, right or wrong, nothing
//! breaks, and no answer is other than it is described.

use std::fs;

use fanfare_testkit::process;
use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use crate::api::client::send;
use crate::console::{Console, PASSWORD};
use crate::python_env::{python_with, root};
use crate::world::{World, event};

/// A member of every thing that has one.
fn id<'a>(thing: &'a Value, member: &str) -> &'a str {
    thing[member].as_str().unwrap()
}

/// Webhooks, deliveries and events that are there; returns their ids.
async fn furnish(world: &World) -> Vec<String> {
    let receiver = Receiver::start().await;
    receiver
        .answer_with(|request, _| Reply::status(if request.path == "/good" { 200 } else { 500 }));
    world
        .directory(&json!({
            "users": [{ "name": "root", "roles": ["System Administrator"] }], "roles": []
        }))
        .await;
    let mut things = Vec::new();
    for (path, state) in [("/good", "delivered"), ("/bad", "dead")] {
        let webhook = world.webhook_of("root", &receiver.url(path), &[]).await;
        world.publish(&event()).await;
        let deliveries = world.deliveries(&webhook, state, 1).await;
        things.push(id(&deliveries[0], "id").to_owned());
        things.push(deliveries[0]["events"][0].as_str().unwrap().to_owned());
        things.push(webhook);
    }
    things
}

#[tokio::test]
async fn nothing_breaks_and_no_answer_is_other_than_described() {
    let world = World::new().await;
    let _delivering = [world.start("router").await, world.start("worker").await];
    let things = furnish(&world).await;
    // Addresses that are made up may name what listens on this machine.
    let console = Console::on(world.with("FANFARE_ALLOW_TARGETS", "")).await;
    console.add(&["root"], &["--admin"]).await;
    let form = format!("grant_type=password&username=root&password={PASSWORD}");
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = send(console.address, "POST", "/Token", &kind, form.as_bytes()).await.unwrap();
    let bearer = format!("Authorization:Bearer {}", id(&answer.json(), "access_token"));

    let folder = std::env::temp_dir().join(format!("fanfare-{}", crate::world::unique()));
    fs::create_dir(&folder).unwrap();
    let things: Vec<String> = things.iter().map(|id| format!("\"{id}\"")).collect();
    fs::write(folder.join("things.txt"), things.join("\n")).unwrap();
    let config = root().join("tests/schemathesis/schemathesis.toml");
    fs::copy(config, folder.join("schemathesis.toml")).unwrap();
    let python = tokio::task::spawn_blocking(|| {
        python_with("tests/schemathesis/requirements.txt", "target/tests-schemathesis")
    });
    let program = python.await.unwrap().with_file_name("st");
    let config = folder.join("schemathesis.toml");
    let document = format!("http://{}/api/openapi.json", console.address);
    let phases = "--phases=examples,coverage,fuzzing,stateful";
    let arguments = ["--config-file", &config.to_string_lossy(), "run", phases];
    let arguments = [&arguments[..], &["--header", &bearer, &document]].concat();
    let output = process::run(&program, &arguments, [], None).await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
    println!("{}", output.stdout);
    output.success().unwrap();
}
