//! Shadow mode: nothing is sent, and what would be sent is compared with what the report server sent.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_testkit::process::{Output, Process};
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::report_server::{Dialect, Kind};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::Bridged;
use crate::api::client::send;
use crate::console::Console;
use crate::metrics::{Watched, listening};
use crate::world::{SECRET, SOON, World, unique};

/// The old receivers: one that records what comes to all of its paths.
struct Recording {
    process: Process,
    url: String,
    file: PathBuf,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

impl Recording {
    async fn start(world: &World) -> Self {
        let file = env::temp_dir().join(format!("fanfare-record-{}", unique()));
        let path = file.display().to_string();
        let process = world.spawn_with(&["listen", "--port", "0", "--record", &path]);
        let line = process.wait_for_line("listening on http://", SOON).await;
        let url = format!("http://{}", line.rsplit("http://").next().unwrap().trim());
        Self { process, url, file }
    }

    /// Ends it, and returns what it recorded.
    async fn end(&mut self) -> Vec<Value> {
        self.process.terminate();
        assert!(self.process.wait_exit(SOON).await.success());
        let text = fs::read_to_string(&self.file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Bridged {
    async fn compare(&self, file: &Path, more: &[&str]) -> (Output, Value) {
        let file = file.display().to_string();
        let args = [&["shadow", "compare", "--received", &file, "--json"], more].concat();
        let output = self.world.run(&args, None).await;
        let parity = serde_json::from_str(&output.stdout).unwrap_or_default();
        (output, parity)
    }

    /// Waits until this many deliveries to a webhook were dropped, with the reason `shadow`.
    async fn shadowed(&self, webhook: &str, count: usize) {
        eventually("the deliveries are dropped", SOON, async || {
            let list = ["deliveries", "list", "--webhook", webhook];
            let list = self.world.json(&list).await;
            let is_shadowed = |it: &Value| {
                (&it["state"], &it["reason"]) == (&json!("dropped"), &json!("shadow"))
                    && it["attempts"] == json!(0)
            };
            let all = list.as_array().unwrap();
            if all.len() == count && all.iter().all(is_shadowed) { Ok(()) } else { Err(list) }
        })
        .await;
    }
}

/// What differs, why, and for whom, without repetitions.
fn differences(parity: &Value) -> Vec<(&str, &str, &str)> {
    fn text<'a>(it: &'a Value, name: &str) -> &'a str {
        it[name].as_str().unwrap_or_default()
    }
    let all = parity["differences"].as_array().unwrap().iter();
    let mut all: Vec<_> =
        all.map(|it| (text(it, "what"), text(it, "reason"), text(it, "owner"))).collect();
    all.sort_unstable();
    all.dedup();
    all
}

async fn a_shadow_tells_what_the_report_server_does_otherwise(dialect: Dialect) {
    let world = listening(World::new().await).with("FANFARE_SHADOW", "on");
    let bridged = Bridged::of(dialect, world).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let (anna, ben) = (server.add_user("Anna"), server.add_user("Ben"));
    server.add_user("Carl");
    server.grant(&anna, 2, "sales");
    server.set_members(&server.role("Report Reader"), &[&ben]);
    let _router = world.start("router").await;
    let worker = Watched::start_in_shadow(world).await;
    let bridge = bridged.start().await;
    let mut old = Recording::start(world).await;
    let of_anna = server.add_webhook(&anna, &format!("{}/anna", old.url), &json!({}));
    let tasks = json!({ "Filters": ["tasks"] });
    let of_ben = server.add_webhook(&ben, &format!("{}/ben", old.url), &tasks);
    let logins = "{\"User\":\"Anna\",\"Password\":\"pa55word-of-Anna\"}\n\
                  {\"User\":\"Ben\",\"Password\":\"pa55word-of-Ben\"}\n";
    let refused = bridged.import(&["--pause-old"], Some(logins)).await;
    assert!(refused.failed_with(2).contains("first set FANFARE_SHADOW=off"), "{refused:?}");
    // Without `--no-verify`: no address is asked.
    let import = ["webhooks", "import", "--from-server", "--logins", "-"];
    let done = world.fanfare_with(&import, Some(logins)).await;
    assert_eq!(done, "imported 2; skipped 0 that were here before\n");
    // The report server sends it to Ben, who may read it; here it is Carl's, who may not.
    let url = format!("{}/carl", old.url);
    server.add_webhook(&ben, &url, &json!({ "Secret": SECRET }));
    world.webhook_of("Carl", &url, &[]).await;
    let receiver = Receiver::start().await;
    let only_here = world.webhook_of("Anna", &receiver.url("/"), &[]).await;

    let sales = server.create(Kind::Reports, Some("sales"));
    server.act(Kind::Reports, &sales, "edit");
    server.delete(Kind::Reports, &sales);
    server.create(Kind::Reports, Some("stock"));
    bridged.shadowed(&of_anna, 3).await;
    bridged.shadowed(&only_here, 3).await;
    eventually("the report server has sent everything", SOON, async || {
        (server.waiting() == 0).then_some(())
    })
    .await;
    let recorded = old.end().await;
    let posts = recorded.iter().filter(|line| line.get("body").is_some()).count();
    assert_eq!(posts, 3 + 4 + 4, "{recorded:?}");
    let is_ours = |line: &Value| line["headers"]["user-agent"].to_string().contains("Fanfare");
    assert!(!recorded.iter().any(is_ours), "{recorded:?}");

    let (output, parity) = bridged.compare(&old.file, &["--webhook", &of_anna]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let expected = json!({
        "equal": true, "webhooks": 1, "there": 3, "here": 3, "same": 3, "differences": [],
    });
    assert_eq!(parity, expected);
    let (output, parity) = bridged.compare(&old.file, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = [("missing-here", "filter", "Ben"), ("missing-here", "no-access", "Carl")];
    assert_eq!(differences(&parity), expected);
    assert_eq!(parity["differences"].as_array().unwrap().len(), 8);
    let (_, parity) = bridged.compare(&old.file, &["--webhook", &only_here]).await;
    assert_eq!(differences(&parity), [("missing-there", "sent", "Anna")]);
    // Another secret than the one that the report server signs with.
    world.fanfare(&["webhooks", "delete", &of_anna, &of_ben]).await;
    world.webhook_of("Anna", &format!("{}/anna", old.url), &[]).await;
    let (_, parity) = bridged.compare(&old.file, &[]).await;
    assert!(differences(&parity).contains(&("secret", "", "Anna")), "{parity}");

    // After the switch, nothing of what was dropped is sent.
    drop((worker, bridge));
    assert_eq!(receiver.connections(), 0);
    let off = [("FANFARE_SHADOW", "off")];
    let worker = world.spawn_with_envs("worker", &off);
    worker.wait_for_line("connected to the broker", SOON).await;
    let _bridge = bridged.world.spawn("bridge");
    let report = server.create(Kind::Reports, Some("sales"));
    receiver.wait_for(1, SOON).await;
    world.deliveries_settle(&only_here).await;
    let requests = receiver.requests();
    let [one] = &requests[..] else { panic!("{requests:?}") };
    assert!(String::from_utf8_lossy(&one.body).contains(&report));
    // Nor by a recovery: the receivers have it from the report server.
    let recover = ["operations", "recover", "--webhook", &only_here, "--since", "1h", "--dry-run"];
    let plan = world.json(&recover).await;
    assert_eq!((&plan["count"], &plan["kept"]["shadow"]), (&json!(0), &json!(3)), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_tells_what_the_framework_server_does_otherwise() {
    a_shadow_tells_what_the_report_server_does_otherwise(Dialect::Framework).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_tells_what_the_net_server_does_otherwise() {
    a_shadow_tells_what_the_report_server_does_otherwise(Dialect::Net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_is_seen_and_asks_no_receiver() {
    let console = Console::on(World::new().await.with("FANFARE_SHADOW", "on")).await;
    let (world, receiver) = (&console.world, Receiver::start().await);
    let webhook = world.webhook(&receiver.url("/")).await;
    console.add(&["anna"], &[]).await;
    assert!(console.webhooks_page("anna").await.contains("Shadow mode: nothing is sent"));
    let doctor = world.run(&["doctor"], None).await.stdout;
    assert!(doctor.contains("shadow mode: on: nothing is sent to receivers"), "{doctor}");
    let text = "nothing is sent to receivers while Fanfare is in shadow mode";
    let add = ["webhooks", "add", "--owner", "anna", "--url", &receiver.url("/")];
    let added = world.run(&add, None).await;
    assert!(added.failed_with(1).contains(text), "{added:?}");
    let pinged = world.run(&["webhooks", "ping", &webhook], None).await;
    assert!(pinged.failed_with(1).contains(text), "{pinged:?}");
    let form = b"grant_type=password&username=anna&password=password-of-tests";
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let token = send(console.address, "POST", "/Token", &kind, form).await.unwrap();
    let token: Value = serde_json::from_str(&token.body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({ "WebHookUri": receiver.url("/") }).to_string();
    let path = "/api/webhooks/registrations";
    let answer = send(console.address, "POST", path, &headers, body.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(text), "{answer:?}");
    assert_eq!(receiver.connections(), 0);
}
