//! Every page, in light and dark, wide and narrow: nothing keeps people from using it, nothing is
//! forbidden by its own policy, it fits the window, and it is small. Each leaves a picture.

use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use super::window::Window;
use super::{Desk, axe};
use crate::world::{SECRET, World, event};

/// The most that a page may weigh with everything that it brings, in bytes.
const MOST: u64 = 150 * 1024;

/// Names of looks, with the window's width and the scheme of colours.
const LOOKS: [(&str, u32, &str); 3] =
    [("light", 1280, "light"), ("dark", 1280, "dark"), ("narrow", 360, "light")];

/// The bytes of a page and of what it brings, as they are when nothing is compressed.
const WEIGHT: &str = "return performance.getEntriesByType('navigation')\
    .concat(performance.getEntriesByType('resource').filter(it => it.initiatorType !== 'fetch'))\
    .reduce((sum, it) => sum + it.decodedBodySize, 0)";

/// What pages are looked at for, all of them before the test fails for any.
struct Looker {
    window: Window,
    faults: Vec<String>,
}

impl Looker {
    /// Looks at a page as it is at a path.
    async fn look_at(&mut self, name: &str, path: &str) {
        self.look_at_after(name, path, "").await;
    }

    /// Looks at a page after a script has done something on it.
    async fn look_at_after(&mut self, name: &str, path: &str, script: &str) {
        self.window.complaints().await;
        self.window.go(path).await;
        if !script.is_empty() {
            self.window.run(script).await.unwrap();
        }
        self.look(name).await;
    }

    /// Looks at the page that is shown.
    async fn look(&mut self, name: &str) {
        let window = &self.window;
        window.until("document.readyState === 'complete'").await;
        window.until("!document.querySelector('time[datetime]:not([data-local])')").await;
        let mut faults = Vec::new();
        for (look, width, scheme) in LOOKS {
            window.look(width, scheme).await;
            let wide = window.run("return document.documentElement.scrollWidth").await.unwrap();
            if wide.as_u64().unwrap() > u64::from(width) {
                faults.push(format!("{look}: it is {wide} px wide"));
            }
            faults.extend(axe::faults(window).await.iter().map(|it| format!("{look}: {it}")));
            window.picture(&format!("{name}-{look}")).await;
        }
        window.look(1280, "light").await;
        let weight = window.run(WEIGHT).await.unwrap().as_u64().unwrap();
        if !(1000..=MOST).contains(&weight) {
            faults.push(format!("it weighs {weight} bytes"));
        }
        let complaints = window.complaints().await;
        // That a page is an error is told by the browser too, of the page's own address.
        faults
            .extend(complaints.into_iter().filter(|it| !it.contains("the server responded with")));
        self.faults.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
    }
}

/// Two users' webhooks: one that works, one that fails, one that wants nothing more.
async fn furnish(world: &World, receiver: &Receiver) -> [String; 4] {
    receiver.answer_with(|request, _| match request.path.as_str() {
        "/legacy/intake" => Reply::text(500, "{\"error\":\"The queue <intake> is full\"}")
            .with_header("content-type", "application/json"),
        "/gone" => Reply::status(410),
        _ => Reply::text(200, "{\"received\":true}"),
    });
    world
        .directory(&json!({
            "users": [
                { "name": "anna", "roles": ["System Administrator"] },
                { "name": "bob", "roles": ["System Administrator"] },
            ],
            "roles": []
        }))
        .await;
    let orders = ["--description", "Orders into the warehouse", "--header", "X-Key: 81f2"];
    let orders = [&orders[..], &["--property", "site=Rotterdam", "--filter", "tasks"]].concat();
    let orders = world.webhook_of("anna", &receiver.url("/orders/hook"), &orders).await;
    let legacy = ["--description", "The old intake", "--filter", "tasks.execute"];
    let legacy = world.webhook_of("anna", &receiver.url("/legacy/intake"), &legacy).await;
    let gone = world.webhook_of("bob", &receiver.url("/gone"), &["--filter", "reports"]).await;
    let long = format!("https://receiver.example/{}?noecho", "a-long-path/".repeat(12));
    let more = ["--paused", "--filter", "alerts", "--filter", "connections"];
    world.webhook_of("anna", &long, &more).await;
    let upload = json!({
        "specversion": "1.0", "id": "up", "source": "/tests", "type": "reports.upload",
        "subject": "categories/c1/reports/r1", "data": { "Id": "r1", "Name": "Quarterly sales" }
    });
    world.publish(&upload).await;
    for _ in 0..6 {
        world.publish(&event()).await;
    }
    let delivered = world.deliveries(&orders, "delivered", 6).await;
    world.deliveries(&legacy, "dead", 6).await;
    world.deliveries(&gone, "delivered", 1).await;
    [orders, legacy, gone, id_of(&delivered[0])]
}

fn id_of(delivery: &Value) -> String {
    delivery["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_page_can_be_used_by_everybody() {
    let desk = Desk::new().await;
    let (console, world) = (&desk.console, &desk.console.world);
    console.add(&["anna", "new"], &[]).await;
    console.add(&["root"], &["--admin"]).await;
    let receiver = Receiver::start().await;
    let [orders, legacy, gone, delivered] = furnish(world, &receiver).await;
    let dead = world.json(&["deliveries", "list", "--webhook", &legacy]).await;
    let dead = id_of(&dead[0]);

    let mut looker = Looker { window: desk.window().await, faults: Vec::new() };
    looker.look_at("sign-in", "/sign-in").await;
    super::sign_in(&looker.window, "anna", "wrong").await;
    looker.window.sees("[role=alert]", "is incorrect").await;
    looker.look("sign-in-refused").await;
    looker.look_at("api", "/api/docs").await;
    looker.window.close().await;

    looker.window = desk.signed_in("new").await;
    looker.look("grid-empty").await;
    looker.window.close().await;

    looker.window = desk.signed_in("anna").await;
    looker.look_at("grid", "/webhooks").await;
    looker.look_at("grid-nothing-found", "/webhooks?q=nowhere").await;
    looker.look_at("new", "/webhooks/new").await;
    let mistakes = "for (const [id, text] of [['url', 'ftp://x'], ['secret', 'short']]) \
                    document.getElementById(id).value = text; \
                    document.querySelector('main form').requestSubmit()";
    looker.window.run(mistakes).await.unwrap();
    looker.window.sees("[role=alert]", "2 fields need your attention").await;
    looker.look("new-refused").await;
    let page = format!("/webhooks/{orders}");
    looker.look_at("edit", &format!("{page}/edit")).await;
    looker.look_at("delete", &format!("{page}/delete")).await;
    looker.look_at("webhook", &page).await;
    looker.look_at("webhook-nothing-sent", &format!("{page}?state=dead")).await;
    looker.window.go(&page).await;
    looker.window.choose("Show secret").await;
    looker.window.choose("Rotate").await;
    looker.window.until("document.getElementById('s1')").await;
    looker.look("webhook-secret").await;
    looker.look_at("delivery", &format!("{page}/deliveries/{delivered}")).await;
    looker.look_at("webhook-failing", &format!("/webhooks/{legacy}")).await;
    looker.look_at("resend", &format!("/webhooks/{legacy}/resend")).await;
    looker.look_at("delivery-dead", &format!("/webhooks/{legacy}/deliveries/{dead}")).await;
    let open = "for (const it of document.querySelectorAll('details')) it.open = true";
    looker.look_at_after("signature", &format!("{page}/signature"), open).await;
    looker.window.fill("#headers", "ms-signature: sha256=00").await;
    looker.window.fill("#secret", SECRET).await;
    looker.window.choose("Check").await;
    looker.window.sees("h2", "It does not match").await;
    looker.look("signature-checked").await;
    looker.look_at("nothing-here", "/webhooks/00000000000000000000000000000000").await;
    looker.window.close().await;

    looker.window = desk.signed_in("root").await;
    looker.look("grid-administrator").await;
    looker.look_at("webhook-of-another", &format!("/webhooks/{gone}")).await;
    looker.window.close().await;
    assert!(looker.faults.is_empty(), "{}", looker.faults.join("\n"));
}
