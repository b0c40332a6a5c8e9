//! The examples, run as their documents say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chrono::Utc;
use fanfare_core::event::{Entry, parse};
use fanfare_core::ids::DeliveryId;
use fanfare_core::mask::MaskPolicy;
use fanfare_core::signature::{ms_signature, webhook_signature};
use fanfare_core::webhook::Secret;
use fanfare_testkit::process::{self, Process};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::api::client::send;
use crate::node_env::node_script;
use crate::python_env::{python, root};
use crate::world::{SECRET, SOON, World, event, unique};

/// The secret that a rotation replaces.
const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";

/// A language with a receiver and a publisher in `examples` that the tests can run.
struct Language {
    interpreter: PathBuf,
    receive: PathBuf,
    publish: PathBuf,
}

impl Language {
    fn python() -> Self {
        let examples = root().join("examples");
        let [receive, publish] = ["receive.py", "publish.py"].map(|name| examples.join(name));
        Self { interpreter: python(), receive, publish }
    }

    fn node() -> Self {
        let receive = root().join("examples/receive.js");
        let publish = node_script("examples", "publish.js", "target/tests-node/examples");
        Self { interpreter: PathBuf::from("node"), receive, publish }
    }

    /// Starts the receiver at a free port.
    async fn receiver(&self, folder: &Path, secrets: &[&str]) -> (Process, SocketAddr) {
        let port_file = folder.join("port").to_string_lossy().into_owned();
        let script = self.receive.to_string_lossy();
        let mut args = vec![script.as_ref(), "--port=0", "--port-file", &port_file];
        args.extend(secrets.iter().flat_map(|secret| ["--secret", secret]));
        let process = Process::spawn(&self.interpreter, &args, []);
        let port = eventually("the receiver's port", SOON, async || {
            std::fs::read_to_string(&port_file).ok().and_then(|port| port.parse::<u16>().ok())
        })
        .await;
        (process, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    async fn publish(&self, args: &[&str]) -> String {
        let script = self.publish.to_string_lossy();
        let args: Vec<&str> = [script.as_ref()].into_iter().chain(args.iter().copied()).collect();
        process::run(&self.interpreter, &args, [], None).await.unwrap().success().unwrap()
    }
}

fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fanfare-{}", unique()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[tokio::test]
async fn events_of_the_python_publisher_reach_the_python_receiver() {
    check_publisher(&Language::python()).await;
}

#[tokio::test]
async fn events_of_the_node_publisher_reach_the_node_receiver() {
    check_publisher(&Language::node()).await;
}

async fn check_publisher(language: &Language) {
    let world = World::new().await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let folder = scratch();
    let (receiver, address) = language.receiver(&folder, &[SECRET]).await;
    world.directory_of_anna().await;
    // The webhook is registered with verification, so the receiver must return the value.
    let url = format!("http://{address}/");
    let add = ["webhooks", "add", "--owner", "anna", "--url", &url, "--secret", SECRET];
    let webhook = world.json(&add).await["Id"].as_str().unwrap().to_owned();
    let file = folder.join("events").to_string_lossy().into_owned();
    std::fs::write(&file, format!("{}\n{}\n", event(), event())).unwrap();
    let broker = world.report_server_url();
    let output = language.publish(&["--url", &broker, &file]).await;
    assert!(output.contains("published 2 events"), "{output}");
    world.deliveries(&webhook, "delivered", 2).await;
    std::fs::write(&file, json!([event(), event(), event()]).to_string()).unwrap();
    let output = language.publish(&["--url", &broker, "--batch", &file]).await;
    assert!(output.contains("published 3 events"), "{output}");
    world.deliveries(&webhook, "delivered", 3).await;
    let notifications = eventually("three bodies", SOON, async || {
        let bodies: Vec<Value> =
            receiver.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (bodies.len() == 3).then_some(bodies)
    })
    .await;
    let counts = notifications.iter().map(|it| it["Notifications"].as_array().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 3]);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A POST as a worker makes it; tests change one header or the body.
struct Post {
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Post {
    /// Signs with these secrets, the newest first, at a time `seconds_away` from now.
    fn signed(id: &str, secrets: &[&str], seconds_away: i64) -> Self {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| secret.parse().unwrap()).collect();
        let id: DeliveryId = id.parse().unwrap();
        let at = Utc::now().timestamp() + seconds_away;
        let body = json!({ "Id": id.to_string(), "Attempt": 1, "Properties": {}, "Notifications": [
            { "Action": "tasks", "UserAction": "execute", "Name": "Überstunden" }
        ] });
        let body = body.to_string();
        let headers = vec![
            ("ms-signature", ms_signature(&secrets[0], body.as_bytes())),
            ("webhook-id", id.to_string()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", webhook_signature(&secrets, id, at, body.as_bytes())),
        ];
        Self { headers, body }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let header = self.headers.iter_mut().find(|(known, _)| *known == name).unwrap();
        value.clone_into(&mut header.1);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    async fn status(&self, address: SocketAddr) -> u16 {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        send(address, "POST", "/", &headers, self.body.as_bytes()).await.unwrap().status
    }
}

#[tokio::test]
async fn python_receiver_accepts_signed_events_and_handles_each_once() {
    check_receiver(&Language::python()).await;
}

#[tokio::test]
async fn node_receiver_accepts_signed_events_and_handles_each_once() {
    check_receiver(&Language::node()).await;
}

async fn check_receiver(language: &Language) {
    let folder = scratch();
    let (receiver, address) = language.receiver(&folder, &[SECRET, OLD_SECRET]).await;
    let echo = send(address, "GET", "/?a=b&echo=c0ffee", &[], b"").await.unwrap();
    assert_eq!((echo.status, echo.body.as_str()), (200, "c0ffee"));

    let id = unique();
    let signed = || Post::signed(&id, &[SECRET], 0);
    let other = "sha256=17BDA3D82726A20C2E9810BC0AA7A06E5E0306FA809A3E9FB4E152CA55A01475";
    let mut changed = signed();
    changed.body = changed.body.replace("tasks", "reports");
    for (what, refused) in [
        ("another secret", Post::signed(&id, &["0123456789abcdef0123456789abcdeX"], 0)),
        ("another body", changed),
        ("another ms-signature", signed().with("ms-signature", other)),
        ("letters beyond ASCII", signed().with("ms-signature", "sha256=Ü")),
        ("no ms-signature", signed().without("ms-signature")),
        ("another id", signed().with("webhook-id", &unique())),
        ("an old time", Post::signed(&id, &[SECRET], -600)),
        ("a future time", Post::signed(&id, &[SECRET], 600)),
        ("no time", signed().without("webhook-timestamp")),
        ("a time that is no number", signed().with("webhook-timestamp", "now")),
        ("no webhook-signature", signed().without("webhook-signature")),
        ("another version", signed().with("webhook-signature", "v2,AAAA")),
    ] {
        assert_eq!(refused.status(address).await, 401, "{what}");
    }
    // A repeated notification, also with the two signatures of a rotation.
    for secrets in [&[SECRET][..], &[SECRET], &[OLD_SECRET], &[SECRET, OLD_SECRET]] {
        assert_eq!(Post::signed(&id, secrets, 0).status(address).await, 200);
    }
    let last = unique();
    assert_eq!(Post::signed(&last, &[SECRET], 0).status(address).await, 200);
    receiver.wait_for_line(&last, SOON).await;
    let lines = receiver.lines();
    assert_eq!(lines.iter().filter(|line| line.contains(&id)).count(), 1, "{lines:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The JSON blocks of a document.
fn json_blocks(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```json\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_event_in_the_documents_is_accepted() {
    let blocks: Vec<String> =
        ["README.md", "docs/publishing.md"].into_iter().flat_map(json_blocks).collect();
    let events: Vec<&String> = blocks.iter().filter(|it| it.contains("\"type\"")).collect();
    assert!(events.len() >= 7, "{events:?}");
    for text in events {
        let published = parse(text.as_bytes(), None, &MaskPolicy::default())
            .unwrap_or_else(|reject| panic!("{text}\n{reject}"));
        let rejected = |entry: &Entry| matches!(entry, Entry::Rejected { .. });
        assert!(!published.entries.iter().any(rejected), "{text}");
    }
}
