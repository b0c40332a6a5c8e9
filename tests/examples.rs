//! The examples, run as their readers would.

use fanfare_testkit::process::Process;
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::python_env::{python, root, script};
use crate::world::{SECRET, SOON, World, event, unique};

#[tokio::test]
async fn the_python_publisher_reaches_the_python_receiver() {
    let world = World::new().await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let scratch = std::env::temp_dir().join(format!("fanfare-{}", unique()));
    std::fs::create_dir(&scratch).unwrap();
    let (port_file, events) = (scratch.join("port"), scratch.join("events.jsonl"));
    let receive = root().join("examples/receive.py");
    let receiver = Process::spawn(
        &python(),
        &[
            receive.to_string_lossy().as_ref(),
            "--port=0",
            "--secret",
            SECRET,
            "--port-file",
            port_file.to_string_lossy().as_ref(),
        ],
        [],
    );
    let port = eventually("the receiver's port", SOON, async || {
        std::fs::read_to_string(&port_file).ok().filter(|port| !port.is_empty())
    })
    .await;
    let owner = json!({
        "users": [{ "name": "anna", "roles": ["System Administrator"] }], "roles": []
    });
    world.directory(&owner).await;
    // Registered with verification: the receiver gives the echo back.
    let url = format!("http://127.0.0.1:{port}/");
    let add = ["webhooks", "add", "--owner", "anna", "--url", &url, "--secret", SECRET];
    let webhook = world.json(&add).await["Id"].as_str().unwrap().to_owned();
    let (one, two) = (event(), event());
    std::fs::write(&events, format!("{one}\n{two}\n")).unwrap();
    let events = events.to_string_lossy();
    script("examples/publish.py", &["--url", &world.report_server_url(), &events]).await;
    world.deliveries(&webhook, "delivered", 2).await;
    receiver.wait_for_line("Nightly orders", SOON).await;
    std::fs::remove_dir_all(&scratch).unwrap();
}
