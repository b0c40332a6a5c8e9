//! Every page, light and dark, wide and narrow: it is accessible, it respects its own content
//! security policy, it fits the window, and it is small. Each one is kept as a screenshot.

use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use super::window::Window;
use super::{Desk, axe};
use crate::world::{SECRET, World, event};

/// The largest size of a page with its scripts, styles and images, in bytes.
const MOST: u64 = 150 * 1024;

/// The variants of each page: a name, the window's width in pixels, and the colour scheme.
const VARIANTS: [(&str, u32, &str); 3] =
    [("light", 1280, "light"), ("dark", 1280, "dark"), ("narrow", 360, "light")];

/// The uncompressed size of a page with its scripts, styles and images, in bytes.
const WEIGHT: &str = "return performance.getEntriesByType('navigation')\
    .concat(performance.getEntriesByType('resource').filter(it => it.initiatorType !== 'fetch'))\
    .reduce((sum, it) => sum + it.decodedBodySize, 0)";

/// Inspects pages and collects their faults, so that the test fails once with all of them.
struct Inspector {
    window: Window,
    faults: Vec<String>,
}

impl Inspector {
    /// Inspects the page at a path.
    async fn inspect(&mut self, name: &str, path: &str) {
        self.inspect_after(name, path, "").await;
    }

    /// Inspects the page at a path after a script has changed it.
    async fn inspect_after(&mut self, name: &str, path: &str, script: &str) {
        self.window.complaints().await;
        self.window.go(path).await;
        if !script.is_empty() {
            self.window.run(script).await.unwrap();
        }
        self.inspect_current(name).await;
    }

    /// Inspects the current page.
    async fn inspect_current(&mut self, name: &str) {
        let window = &self.window;
        window.until("document.readyState === 'complete'").await;
        window.until("!document.querySelector('time[datetime]:not([data-local])')").await;
        let mut faults = Vec::new();
        for (variant, width, scheme) in VARIANTS {
            window.emulate(width, scheme).await;
            let wide = window.run("return document.documentElement.scrollWidth").await.unwrap();
            if wide.as_u64().unwrap() > u64::from(width) {
                faults.push(format!("{variant}: it is {wide} px wide"));
            }
            faults.extend(axe::faults(window).await.iter().map(|it| format!("{variant}: {it}")));
            window.picture(&format!("{name}-{variant}")).await;
        }
        window.emulate(1280, "light").await;
        let weight = window.run(WEIGHT).await.unwrap().as_u64().unwrap();
        if !(1000..=MOST).contains(&weight) {
            faults.push(format!("its size is {weight} bytes"));
        }
        let complaints = window.complaints().await;
        // The browser reports an error page too, under the page's own address.
        faults
            .extend(complaints.into_iter().filter(|it| !it.contains("the server responded with")));
        self.faults.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
    }
}

/// Webhooks of two users: one works, one fails, one answers 410.
async fn create_webhooks(world: &World, receiver: &Receiver) -> [String; 4] {
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
    let mut refused = event();
    refused["type"] = json!("galaxies.execute");
    world.publish(&refused).await;
    let delivered = world.deliveries(&orders, "delivered", 6).await;
    world.deliveries(&legacy, "dead", 6).await;
    world.deliveries(&gone, "delivered", 1).await;
    [orders, legacy, gone, id_of(&delivered[0])]
}

fn id_of(delivery: &Value) -> String {
    delivery["id"].as_str().unwrap().to_owned()
}

/// Inspects the pages about events, the directory, accounts and the whole installation.
async fn inspect_administration(inspector: &mut Inspector, webhook: &str) {
    inspector.inspect("overview", "/overview").await;
    inspector.inspect("events", "/events").await;
    inspector.inspect("events-nothing-found", "/events?resource=alerts/none").await;
    inspector.inspect("event", "/events/event?id=up").await;
    let explain = format!("/webhooks/{webhook}/explain");
    inspector.inspect("explain", &format!("{explain}?about=up")).await;
    inspector.inspect("explain-resource", &format!("{explain}?about=tasks/t1")).await;
    inspector.inspect("directory", "/directory?resource=tasks/t1").await;
    inspector.inspect("directory-user", "/directory?user=anna&list=roles").await;
    inspector.inspect("accounts", "/accounts").await;
    inspector.window.go("/dead-letters?queue=events").await;
    let first = "return document.querySelector('table a[href^=\"/dead-letters/letter\"]').href";
    let letter = inspector.window.run(first).await.unwrap();
    let letter = letter.as_str().unwrap().split_once("/dead-letters").unwrap().1.to_owned();
    let mend = letter.replace("/letter", "/dead-letters/mend");
    inspector.inspect("mend", &mend).await;
    inspector.window.choose("Check").await;
    inspector.window.sees("[role=alert]", "published").await;
    inspector.inspect_current("mend-refused").await;
}

#[tokio::test]
async fn every_page_is_accessible() {
    let desk = Desk::new().await;
    let (console, world) = (&desk.console, &desk.console.world);
    console.add(&["anna", "new"], &[]).await;
    console.add(&["root"], &["--admin"]).await;
    let receiver = Receiver::start().await;
    let [orders, legacy, gone, delivered] = create_webhooks(world, &receiver).await;
    let dead = world.json(&["deliveries", "list", "--webhook", &legacy]).await;
    let dead = id_of(&dead[0]);

    let mut inspector = Inspector { window: desk.window().await, faults: Vec::new() };
    inspector.inspect("sign-in", "/sign-in").await;
    super::sign_in(&inspector.window, "anna", "wrong").await;
    inspector.window.sees("[role=alert]", "is incorrect").await;
    inspector.inspect_current("sign-in-refused").await;
    inspector.inspect("api", "/api/docs").await;
    inspector.window.close().await;

    inspector.window = desk.signed_in("new").await;
    inspector.inspect_current("grid-empty").await;
    inspector.window.close().await;

    inspector.window = desk.signed_in("anna").await;
    inspector.inspect("grid", "/webhooks").await;
    inspector.inspect("grid-nothing-found", "/webhooks?q=nowhere").await;
    inspector.inspect("new", "/webhooks/new").await;
    let mistakes = "for (const [id, text] of [['url', 'ftp://x'], ['secret', 'short']]) \
                    document.getElementById(id).value = text; \
                    document.querySelector('main form').requestSubmit()";
    inspector.window.run(mistakes).await.unwrap();
    inspector.window.sees("[role=alert]", "2 fields need your attention").await;
    inspector.inspect_current("new-refused").await;
    let page = format!("/webhooks/{orders}");
    inspector.inspect("edit", &format!("{page}/edit")).await;
    inspector.inspect("delete", &format!("{page}/delete")).await;
    inspector.inspect("webhook", &page).await;
    inspector.inspect("webhook-nothing-sent", &format!("{page}?state=dead")).await;
    inspector.window.go(&page).await;
    inspector.window.choose("Show secret").await;
    inspector.window.choose("Rotate").await;
    inspector.window.until("document.getElementById('s1')").await;
    inspector.inspect_current("webhook-secret").await;
    inspector.inspect("delivery", &format!("{page}/deliveries/{delivered}")).await;
    inspector.inspect("webhook-failing", &format!("/webhooks/{legacy}")).await;
    inspector.inspect("audit-of-an-owner", "/audit").await;
    inspector.inspect("notices-of-an-owner", "/notices").await;
    inspector.inspect("channels-of-notices", "/notices/settings").await;
    inspector.inspect("operations-of-an-owner", "/operations").await;
    inspector.inspect("resend", &format!("/webhooks/{legacy}/resend")).await;
    inspector.inspect("delivery-dead", &format!("/webhooks/{legacy}/deliveries/{dead}")).await;
    let open = "for (const it of document.querySelectorAll('details')) it.open = true";
    inspector.inspect_after("signature", &format!("{page}/signature"), open).await;
    inspector.window.fill("#headers", "ms-signature: sha256=00").await;
    inspector.window.fill("#secret", SECRET).await;
    inspector.window.choose("Check").await;
    inspector.window.sees("h2", "It does not match").await;
    inspector.inspect_current("signature-checked").await;
    inspector.inspect("nothing-here", "/webhooks/00000000000000000000000000000000").await;
    inspector.window.close().await;

    inspector.window = desk.signed_in("root").await;
    inspector.inspect_current("grid-administrator").await;
    inspector.inspect("storage", "/storage").await;
    inspector.inspect("audit", "/audit").await;
    inspector.inspect("notices", "/notices").await;
    inspector.inspect("dead-letters", "/dead-letters?text=execute").await;
    let letters = world.json(&["dead-letters", "list"]).await;
    let letter = format!("/dead-letters/letter?id={}", letters[0]["id"].as_str().unwrap());
    inspector.inspect("dead-letter", &letter).await;
    inspector.inspect("dead-letters-nothing-found", "/dead-letters?host=nowhere").await;
    inspector.inspect("operations-none", "/operations").await;
    inspector.inspect("operation-new", "/operations/new?kind=replay").await;
    inspect_administration(&mut inspector, &orders).await;
    inspector.inspect("audit-nothing-found", "/audit?actor=nobody").await;
    inspector.inspect("webhook-of-another", &format!("/webhooks/{gone}")).await;
    inspector.window.close().await;
    assert!(inspector.faults.is_empty(), "{}", inspector.faults.join("\n"));
}
