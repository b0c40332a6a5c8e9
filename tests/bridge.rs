//! The bridge to a report server that publishes nothing, against a simulated one.

mod directory;
mod doctor;
mod outage;
mod shadow;
mod takeover;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fanfare_testkit::ports::free_port;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Request};
use fanfare_testkit::report_server::{ADMINISTRATOR, Dialect, Kind, ReportServer};
use fanfare_testkit::wait::eventually;
use serde_json::Value;

use crate::world::{SOON, World, dead_events, unique};

/// An installation with a bridge to a report server.
struct Bridged {
    world: World,
    server: ReportServer,
    folder: PathBuf,
}

impl Drop for Bridged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Bridged {
    async fn new(dialect: Dialect) -> Self {
        Self::of(dialect, World::new().await).await
    }

    /// The same in a world with other settings.
    async fn of(dialect: Dialect, world: World) -> Self {
        let server = ReportServer::start(dialect).await;
        server.switch(|it| it.pauses = [Duration::from_millis(300), Duration::from_secs(1)]);
        let port = free_port().unwrap();
        let address = format!("127.0.0.1:{port}");
        let folder = std::env::temp_dir().join(format!("fanfare-bridge-{}", unique()));
        let world = world
            .with("FANFARE_BRIDGE_SERVER", &server.url())
            .with("FANFARE_BRIDGE_USER", ADMINISTRATOR.0)
            .with("FANFARE_BRIDGE_PASSWORD", ADMINISTRATOR.1)
            .with("FANFARE_BRIDGE_LISTEN", &address)
            .with("FANFARE_BRIDGE_URL", &format!("http://{address}/in/main"))
            .with("FANFARE_BRIDGE_FOLDER", &folder.display().to_string())
            .with("FANFARE_BRIDGE_POLL", "300ms");
        Self { world, server, folder }
    }

    /// Starts a bridge, and waits until the directory is published and the webhook registered.
    async fn start(&self) -> Process {
        let bridge = self.world.spawn("bridge");
        // A report server that fails again and again is asked after longer and longer pauses.
        bridge.wait_for_line("published the directory", SOON * 3).await;
        self.registered().await;
        bridge
    }

    async fn registered(&self) {
        eventually("the bridge's webhook", SOON, async || {
            let hooks = self.server.webhooks();
            matches!(&hooks[..], [(_, false, _)]).then_some(()).ok_or(hooks)
        })
        .await;
    }

    /// Waits until everything that the server sent was answered, and checks that each was delivered
    /// once to a receiver.
    async fn all_arrive(&self, receiver: &Receiver, count: usize) {
        eventually("the report server has sent everything", SOON * 2, async || {
            let waiting = self.server.waiting();
            if waiting == 0 { Ok(()) } else { Err(waiting) }
        })
        .await;
        assert_eq!(self.server.given_up(), 0);
        eventually("all notifications at the receiver", SOON * 2, async || {
            let arrived = notified(&receiver.requests()).values().sum::<usize>();
            if arrived >= count { Ok(()) } else { Err(arrived) }
        })
        .await;
        let notified = notified(&receiver.requests());
        let sent = self.server.sent();
        assert_eq!((notified.len(), sent.len()), (count, count));
        for it in sent {
            assert_eq!(notified.get(&(it.resource.clone(), it.action.clone())), Some(&1), "{it:?}");
        }
    }
}

/// How often a receiver got each action of each resource.
fn notified(requests: &[Request]) -> HashMap<(String, String), usize> {
    let mut notified = HashMap::new();
    for request in requests.iter().filter(|request| request.method == "POST") {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for notification in body["Notifications"].as_array().unwrap() {
            let text = |name: &str| notification[name].as_str().unwrap().to_owned();
            *notified.entry((text("Id"), text("UserAction"))).or_default() += 1;
        }
    }
    notified
}

async fn events_of_a_report_server_reach_those_who_may_read_them(dialect: Dialect) {
    let bridged = Bridged::new(dialect).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let anna = server.add_user("Anna");
    let ben = server.add_user("Ben");
    server.grant(&anna, 2, "sales");
    server.set_members(&server.role("Report Reader"), &[&ben]);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let _bridge = bridged.start().await;
    let [of_anna, of_ben] = [Receiver::start().await, Receiver::start().await];
    world.webhook_of("anna", &of_anna.url("/"), &[]).await;
    world.webhook_of("ben", &of_ben.url("/"), &[]).await;

    let sales = server.create(Kind::Reports, Some("sales"));
    let stock = server.create(Kind::Reports, Some("stock"));
    let alert = server.create(Kind::Alerts, None);
    server.act(Kind::Reports, &sales, "edit");
    server.delete(Kind::Reports, &sales);
    server.delete(Kind::Reports, &stock);
    of_anna.wait_for(3, SOON).await;
    of_ben.wait_for(5, SOON).await;
    let last = server.create(Kind::Reports, Some("sales"));
    of_anna.wait_for(4, SOON).await;
    of_ben.wait_for(6, SOON).await;
    let expected = |ids: &[(&str, &str)]| {
        let entry = |(id, action): &(&str, &str)| (((*id).to_owned(), (*action).to_owned()), 1);
        ids.iter().map(entry).collect::<HashMap<_, _>>()
    };
    let of_sales =
        [(&*sales, "upload"), (&*sales, "edit"), (&*sales, "delete"), (&*last, "upload")];
    let of_both = [&of_sales[..], &[(&*stock, "upload"), (&*stock, "delete")]].concat();
    assert_eq!(notified(&of_anna.requests()), expected(&of_sales));
    assert_eq!(notified(&of_ben.requests()), expected(&of_both));
    assert!(!notified(&of_ben.requests()).contains_key(&(alert, "create".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_framework_server_reach_those_who_may_read_them() {
    events_of_a_report_server_reach_those_who_may_read_them(Dialect::Framework).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_net_server_reach_those_who_may_read_them() {
    events_of_a_report_server_reach_those_who_may_read_them(Dialect::Net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_that_is_taken_away_ends_with_the_next_reading() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let anna = server.add_user("Anna");
    let report = server.create(Kind::Reports, Some("sales"));
    server.grant(&anna, 1, &report);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let _bridge = bridged.start().await;
    let receiver = Receiver::start().await;
    world.webhook_of("anna", &receiver.url("/"), &[]).await;
    server.act(Kind::Reports, &report, "edit");
    receiver.wait_for(1, SOON).await;

    // The report exists, so that the permission was revoked and nothing is held back.
    server.revoke(&anna, 1, &report);
    let reads = async |report: &str| {
        let subject = format!("categories/sales/reports/{report}");
        world
            .json(&["access", "readers", &subject])
            .await
            .to_string()
            .to_lowercase()
            .contains("anna")
    };
    eventually("anna may not read it", SOON, async || (!reads(&report).await).then_some(())).await;
    // A deletion takes its permissions with it, and its notification arrives all the same.
    server.grant(&anna, 1, &report);
    eventually("anna may read it", SOON, async || reads(&report).await.then_some(())).await;
    server.delete(Kind::Reports, &report);
    receiver.wait_for(2, SOON).await;
    let notified = notified(&receiver.requests());
    assert_eq!(
        notified.keys().map(|(_, action)| action.as_str()).filter(|it| *it == "delete").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_and_a_bridge_that_is_killed_lose_nothing() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let anna = server.add_user("Anna");
    server.set_members(&server.role("Report Reader"), &[&anna]);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let mut bridge = bridged.start().await;
    let receiver = Receiver::start().await;
    world.webhook_of("anna", &receiver.url("/"), &[]).await;
    // It gives up after three tries, as in five minutes of a real one's time.
    server.switch(|it| {
        it.twice = true;
        it.pauses = [Duration::from_secs(2), Duration::from_secs(20)];
    });
    // A broker that this bridge can't reach.
    let away = [("FANFARE_AMQP_URL", "amqp://fanfare:none@127.0.0.1:1")];
    for round in 0..10 {
        for _ in 0..20 {
            server.create(Kind::Reports, Some("sales"));
        }
        bridge.kill9();
        let changed = if round < 7 { &away[..] } else { &[] };
        bridge = world.spawn_with_envs("bridge", changed);
        bridge.wait_for_line("for the report server", SOON).await;
    }
    bridged.all_arrive(&receiver, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difficult_report_server_costs_no_event_and_no_wrong_directory() {
    let bridged = Bridged::new(Dialect::Net).await;
    let (server, world) = (&bridged.server, &bridged.world);
    server.switch(|it| {
        it.rate_limit = true;
        it.html = 17;
        it.errors = 7;
        it.changes_while_read = 2;
        it.names = true;
        it.v3_in_part = true;
        it.at_once = 3;
    });
    let anna = server.add_user("Anna");
    server.set_members(&server.role("Report Reader"), &[&anna]);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let _bridge = bridged.start().await;
    let receiver = Receiver::start().await;
    world.webhook_of("anna", &receiver.url("/"), &[]).await;
    for number in 0..30 {
        if number % 10 == 0 {
            server.expire_tokens();
        }
        server.create(Kind::Reports, Some("sales"));
    }
    bridged.all_arrive(&receiver, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_category_reaches_those_who_may_read_its_category() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let anna = server.add_user("Anna");
    server.grant(&anna, 2, "sales");
    server.switch(|it| it.no_category = true);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let _bridge = bridged.start().await;
    let receiver = Receiver::start().await;
    world.webhook_of("anna", &receiver.url("/"), &[]).await;
    let [sales, stock] = ["sales", "stock"].map(|it| server.create(Kind::Reports, Some(it)));
    receiver.wait_for(1, SOON).await;
    // The report server does not list them any more, and the bridge remembers them.
    server.delete(Kind::Reports, &stock);
    server.delete(Kind::Reports, &sales);
    receiver.wait_for(2, SOON).await;
    let last = server.create(Kind::Reports, Some("sales"));
    receiver.wait_for(3, SOON).await;
    let notified = notified(&receiver.requests());
    let mut ids: Vec<&str> = notified.keys().map(|(id, _)| id.as_str()).collect();
    ids.sort_unstable();
    let mut expected = [&*sales, &*sales, &*last];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_can_not_be_read_becomes_a_dead_letter() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let world = &bridged.world;
    let _router = world.start("router").await;
    let _bridge = bridged.start().await;
    assert_eq!(bridged.server.post_to_webhooks("{\"Id\": 7"), [200]);
    let amqp = world.amqp().await;
    let letter = dead_events(&amqp, 1).await.remove(0);
    assert_eq!(&letter.body[..], b"{\"Id\": 7");
    assert_eq!(letter.header("x-fanfare-reason").as_deref(), Some("not-json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridges_webhook_is_one_and_comes_back_when_it_is_paused() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let _router = bridged.world.start("router").await;
    let bridge = bridged.start().await;
    drop(bridge);
    bridged.server.pause_webhooks();
    let bridge = bridged.world.spawn("bridge");
    bridge.wait_for_line("mended the bridge's webhook", SOON).await;
    let hooks = bridged.server.webhooks();
    assert!(matches!(&hooks[..], [(_, false, description)] if description == "Fanfare bridge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_answer_to_the_registration_is_no_registration() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let _router = bridged.world.start("router").await;
    bridged.server.switch(|it| it.html_for_changes = true);
    let bridge = bridged.world.spawn("bridge");
    bridge.wait_for_line("does not list it as it was sent", SOON).await;
    bridged.server.switch(|it| it.html_for_changes = false);
    bridged.registered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_report_server_is_said_plainly() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let server = &bridged.server;
    // Makes the exchange. Without it, a bridge waits with the documents of the one before it.
    let _router = bridged.world.start("router").await;
    let says = async |changed: &[(&str, &str)], text: &str| {
        let bridge = bridged.world.spawn_with_envs("bridge", changed);
        bridge.wait_for_line(text, SOON).await;
    };
    let wrong = [("FANFARE_BRIDGE_PASSWORD", "wr0ng-password")];
    says(&wrong, "check FANFARE_BRIDGE_USER and FANFARE_BRIDGE_PASSWORD").await;
    server.switch(|it| it.has_webhooks = false);
    says(&[], "this report server has no webhooks").await;
    server.switch(|it| it.html = 1);
    says(&[], "answers a page or something else that is not JSON").await;
    server.switch(|it| it.html = 0);
    server.add_role("SYSTEM ADMINISTRATOR", &[]);
    says(&[], "two roles have the name").await;
    let ben = server.add_user("Ben");
    let of_ben = [("FANFARE_BRIDGE_USER", "Ben"), ("FANFARE_BRIDGE_PASSWORD", "pa55word-of-Ben")];
    says(&of_ben, "make it a member of System Administrator").await;
    server.remove_user(&ben);
    says(&of_ben, "check FANFARE_BRIDGE_USER").await;
    let one = bridged.world.spawn("bridge");
    one.wait_for_line("for the report server", SOON).await;
    says(&[], "another bridge uses the folder").await;
}
