//! Schemathesis tests the APIs against their description: no valid or invalid request causes a
//! server error, and every response matches the description.

use std::fs;

use fanfare_testkit::process;
use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use crate::api::client::send;
use crate::console::{Console, PASSWORD};
use crate::python_env::{python_with, root};
use crate::world::{World, event};

/// A text member of a JSON object.
fn id<'a>(thing: &'a Value, member: &str) -> &'a str {
    thing[member].as_str().unwrap()
}

/// Creates webhooks, deliveries and events; returns their ids.
async fn create_objects(world: &World) -> Vec<String> {
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
async fn schemathesis_finds_no_error_and_no_undescribed_response() {
    let world = World::new().await;
    let _delivering = [world.start("router").await, world.start("worker").await];
    let things = create_objects(&world).await;
    // Generated addresses may name a port on which another program of this machine listens.
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
