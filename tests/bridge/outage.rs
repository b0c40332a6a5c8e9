//! Many events through an outage of the broker, while the bridge is killed again and again and the
//! report server is difficult. `FANFARE_TEST_BRIDGE_EVENTS` makes it larger, and
//! `FANFARE_TEST_BRIDGE_OUTAGE` lengthens the outage to this number of seconds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::report_server::{Dialect, Kind, ReportServer};
use fanfare_testkit::wait::eventually;
use serde_json::Value;
use tokio::time::sleep;

use super::Bridged;
use crate::world::{SOON, World};

/// How often the bridge is killed.
const KILLS: usize = 10;
/// The most notifications that the report server posts at the same time or tries again.
const AT_ONCE: usize = 100;

/// Notifications by resource and action, with the ids of the deliveries that brought them.
type Notified = BTreeMap<(String, String), Vec<String>>;

fn events() -> usize {
    let count = env::var_os("FANFARE_TEST_BRIDGE_EVENTS");
    count.map_or(400, |count| count.to_str().unwrap().parse().unwrap())
}

/// The shortest time for which the broker is away.
fn outage() -> Duration {
    let seconds = env::var_os("FANFARE_TEST_BRIDGE_OUTAGE");
    Duration::from_secs(seconds.map_or(0, |seconds| seconds.to_str().unwrap().parse().unwrap()))
}

/// The users and what they may read, each with a receiver.
struct Readers {
    /// Everything, the category `sales`, some reports, and nothing.
    all: Receiver,
    sales: Receiver,
    some: Receiver,
    none: Receiver,
    reports: Vec<String>,
}

impl Readers {
    async fn new(server: &ReportServer) -> Self {
        let ids = ["all", "sales", "some", "none"].map(|name| server.add_user(name));
        server.set_members(&server.role("Report Reader"), &[&ids[0]]);
        server.grant(&ids[1], 2, "sales");
        let reports: Vec<String> =
            (0..6).map(|_| server.create(Kind::Reports, Some("stock"))).collect();
        for report in &reports {
            server.grant(&ids[2], 1, report);
        }
        let receivers = [(); 4].map(|()| Receiver::start());
        let [all, sales, some, none] = receivers;
        Self { all: all.await, sales: sales.await, some: some.await, none: none.await, reports }
    }

    /// Registers a webhook for each; returns their ids.
    async fn register(&self, world: &World) -> HashMap<&'static str, String> {
        let mut ids = HashMap::new();
        for (name, receiver) in self.receivers() {
            ids.insert(name, world.webhook_of(name, &receiver.url("/"), &[]).await);
        }
        ids
    }

    fn may_read(&self, name: &str, report: &str, category: Option<&&'static str>) -> bool {
        match name {
            "all" => true,
            "sales" => category == Some(&"sales"),
            "some" => self.reports.iter().any(|it| it == report),
            _ => false,
        }
    }

    /// Waits until each has got what was sent and that user may read. Nothing else may have come, and
    /// nothing twice: no worker was killed.
    async fn have_exactly(
        &self,
        sent: &BTreeSet<(String, String)>,
        categories: &HashMap<String, &'static str>,
        webhooks: &HashMap<&'static str, String>,
        world: &World,
    ) {
        for (name, receiver) in self.receivers() {
            let may_read = |report: &str| self.may_read(name, report, categories.get(report));
            let expected: BTreeSet<_> =
                sent.iter().filter(|(report, _)| may_read(report)).collect();
            eventually(&format!("all notifications of {name}"), SOON * 5, async || {
                let notified = notified(receiver);
                let missing = expected.iter().filter(|it| !notified.contains_key(**it)).count();
                if missing == 0 { Ok(()) } else { Err((missing, expected.len())) }
            })
            .await;
            world.deliveries_settle(&webhooks[name]).await;
            for ((report, action), ids) in notified(receiver) {
                assert!(may_read(&report), "{name} got {action} of {report}");
                assert_eq!(ids.len(), 1, "{name} got {action} of {report} several times: {ids:?}");
            }
        }
    }

    fn receivers(&self) -> [(&'static str, &Receiver); 4] {
        [("all", &self.all), ("sales", &self.sales), ("some", &self.some), ("none", &self.none)]
    }
}

fn notified(receiver: &Receiver) -> Notified {
    let mut notified = Notified::new();
    for request in receiver.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for it in body["Notifications"].as_array().unwrap() {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            let id = body["Id"].as_str().unwrap().to_owned();
            notified.entry((text("Id"), text("UserAction"))).or_default().push(id);
        }
    }
    notified
}

/// Waits until at most this many notifications are posted or wait for another try.
async fn at_most(server: &ReportServer, waiting: usize) {
    eventually("the report server has posted", SOON * 3, async || {
        let now = server.waiting();
        if now <= waiting { Ok(()) } else { Err(now) }
    })
    .await;
}

/// Does something at the report server; returns the category.
async fn act(server: &ReportServer, number: usize, categories: &mut HashMap<String, &'static str>) {
    at_most(server, AT_ONCE).await;
    let category = if number.is_multiple_of(2) { "sales" } else { "stock" };
    let report = server.create(Kind::Reports, Some(category));
    categories.insert(report.clone(), category);
    if number.is_multiple_of(5) {
        server.delete(Kind::Reports, &report);
    }
}

async fn nothing_is_lost(dialect: Dialect) {
    let (world, mut broker) = World::new().await.with_broker_proxy();
    let bridged = Bridged::of(dialect, world).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let readers = Readers::new(server).await;
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let mut bridge: Process = bridged.start().await;
    let webhooks = readers.register(world).await;
    server.switch(|it| {
        it.rate_limit = true;
        it.errors = 13;
        it.html = 101;
        it.names = true;
        it.pauses = [Duration::from_secs(3), Duration::from_secs(12)];
    });
    let (count, began) = (events(), Instant::now());
    let mut categories = HashMap::new();
    for number in 0..count / 10 {
        act(server, number, &mut categories).await;
    }
    broker.cut().await;
    let (away, pause) = (Instant::now(), outage() / u32::try_from(KILLS).unwrap());
    for round in 0..KILLS {
        let begun = Instant::now();
        for number in 0..count * 8 / 10 / KILLS {
            act(server, number, &mut categories).await;
        }
        if round == KILLS / 2 {
            // Their permissions go with them.
            for report in &readers.reports {
                server.act(Kind::Reports, report, "edit");
                server.delete(Kind::Reports, report);
            }
        }
        bridge.kill9();
        bridge = world.spawn("bridge");
        bridge.wait_for_line("for the report server", SOON).await;
        sleep(pause.saturating_sub(begun.elapsed())).await;
    }
    let away = away.elapsed();
    broker.resume();
    for number in 0..count / 10 {
        act(server, number, &mut categories).await;
    }
    at_most(server, 0).await;
    let posted = began.elapsed();
    let sent: BTreeSet<(String, String)> =
        server.sent().into_iter().map(|it| (it.resource, it.action)).collect();
    readers.have_exactly(&sent, &categories, &webhooks, world).await;
    println!(
        "{count} events: {} sent, {} given up by the report server; the broker away for {away:?}, \
         posted in {posted:?}, delivered in {:?}",
        sent.len(),
        server.given_up(),
        began.elapsed(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_through_an_outage_and_kills_beside_the_framework_server() {
    nothing_is_lost(Dialect::Framework).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_through_an_outage_and_kills_beside_the_net_server() {
    nothing_is_lost(Dialect::Net).await;
}
