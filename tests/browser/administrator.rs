//! A new administrator finds out why deliveries to one receiver failed yesterday, and replays them.

use std::fs;
use std::time::{Duration, Instant};

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::Desk;
use super::window::Window;
use crate::python_env::root;
use crate::world::{SOON, World, event};

/// The most clicks and the longest time from the page after signing in to the end of the replay.
const MOST_CLICKS: u32 = 6;
const LONGEST: Duration = Duration::from_mins(2);
/// The largest size of a picture in the documents, in bytes.
const LARGEST_PICTURE: usize = 150 * 1024;
/// The deliveries to the receiver that failed yesterday.
const FAILED: usize = 7;

/// Two receivers that failed, and one that works.
struct Receivers {
    /// It failed yesterday and works again. Its host is `localhost`.
    orders: Receiver,
    /// It still fails. Its host is `127.0.0.1`, as that of the third.
    legacy: Receiver,
    orders_webhook: String,
    legacy_webhook: String,
}

impl Receivers {
    /// The deliveries to `orders` died yesterday, but one, which died some days before. Those to
    /// `legacy` died yesterday too.
    async fn failed_yesterday(world: &World) -> Self {
        let (orders, legacy) = (Receiver::start().await, Receiver::start().await);
        orders.answer_with(|_, _| Reply::text(503, "the warehouse is closed for maintenance"));
        legacy.answer_with(|request, _| match request.path.as_str() {
            "/intake" => Reply::status(500),
            _ => Reply::status(200),
        });
        let users = ["anna", "bob"].map(|name| json!({ "name": name, "roles": ["Clerk"] }));
        let permissions = json!([{ "access": ["read"], "scope": "any-task" }]);
        let role = json!({ "name": "Clerk", "permissions": permissions });
        world.directory(&json!({ "users": users, "roles": [role] })).await;
        let url = format!("http://localhost:{}/orders", orders.addr().port());
        let orders_webhook = world.webhook_of("anna", &url, &[]).await;
        let legacy_webhook = world.webhook_of("bob", &legacy.url("/intake"), &[]).await;
        world.webhook_of("bob", &legacy.url("/works"), &[]).await;
        for _ in 0..=FAILED {
            world.publish(&event()).await;
        }
        for webhook in [&orders_webhook, &legacy_webhook] {
            world.deliveries(webhook, "dead", FAILED + 1).await;
        }
        world.sql("update dead_letters set died_at = died_at - interval '1 day'");
        world.sql(&format!(
            "update dead_letters set died_at = died_at - interval '3 days'
             where id = (select min(id) from dead_letters where webhook = '{orders_webhook}')"
        ));
        orders.answer_with(|_, _| Reply::status(200));
        Self { orders, legacy, orders_webhook, legacy_webhook }
    }

    /// Asserts that the receiver's letters of yesterday, and no others, were delivered.
    async fn assert_replayed(&self, world: &World, posts_before: [usize; 2]) {
        let delivered = ["deliveries", "list", "--webhook", &self.orders_webhook, "--state"];
        let delivered = [&delivered[..], &["delivered"]].concat();
        eventually("they are delivered", SOON, async || {
            let count = world.json(&delivered).await.as_array().unwrap().len();
            if count == FAILED { Ok(()) } else { Err(count) }
        })
        .await;
        assert_eq!(self.posts(), [posts_before[0] + FAILED, posts_before[1]]);
        let left = world.json(&["dead-letters", "list"]).await;
        let of = |webhook: &String| {
            left.as_array().unwrap().iter().filter(|it| it["webhook"] == **webhook).count()
        };
        assert_eq!([of(&self.orders_webhook), of(&self.legacy_webhook)], [1, FAILED + 1]);
    }

    fn posts(&self) -> [usize; 2] {
        [&self.orders, &self.legacy].map(Receiver::count)
    }
}

/// A person at a window, whose clicks are counted.
struct Person<'a> {
    window: &'a Window,
    clicks: u32,
}

impl Person<'_> {
    /// Clicks the link or button with this text.
    async fn choose(&mut self, text: &str) {
        self.window.choose(text).await;
        self.clicks += 1;
    }

    /// Keeps a picture of the page: in the documents if `UPDATE_DOCS` is set.
    async fn picture(&self, name: &str) {
        let window = self.window;
        window.until("!document.querySelector('time[datetime]:not([data-local])')").await;
        let name = format!("administering-{name}");
        let picture = window.picture_of_top(720).await;
        assert!(picture.len() <= LARGEST_PICTURE, "{name}: {} bytes", picture.len());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(root().join(format!("docs/images/{name}.png")), picture).unwrap();
        }
    }
}

#[tokio::test]
async fn what_failed_yesterday_is_found_and_replayed_within_six_clicks() {
    let desk = Desk::new().await;
    let world = &desk.console.world;
    let receivers = Receivers::failed_yesterday(world).await;
    desk.console.add(&["root"], &["--admin"]).await;
    let posts_before = receivers.posts();

    let window = desk.signed_in("root").await;
    let begun = Instant::now();
    let mut person = Person { window: &window, clicks: 0 };
    person.choose("Overview").await;
    window.sees(".notice", "16 older dead letters wait for a decision").await;
    person.picture("overview").await;
    person.choose("Which receivers, and why").await;
    window.sees("tbody tr", "localhost").await;
    person.picture("receivers").await;
    person.choose("localhost").await;
    window.sees("tbody tr", "status 503").await;
    person.choose("Yesterday (UTC)").await;
    window.sees(".chosen", "died since").await;
    // The reason is on the page from which the letters are replayed.
    window.sees("tbody tr", "status 503").await;
    person.picture("reason").await;
    person.choose(&format!("Replay {FAILED} letters…")).await;
    window.sees("[role=status]", &format!("{FAILED} letters would be replayed")).await;
    person.picture("replay").await;
    person.choose(&format!("Replay {FAILED} letters")).await;
    window.sees("[role=status]", &format!("Done. {FAILED} of {FAILED} letters done.")).await;
    window.until("!document.querySelector('[data-polls]')").await;
    person.picture("progress").await;
    assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
    assert!(person.clicks <= MOST_CLICKS, "{} clicks", person.clicks);
    receivers.assert_replayed(world, posts_before).await;
    window.close().await;
}

#[tokio::test]
async fn the_same_is_found_and_replayed_with_commands() {
    let world = World::new().await;
    let _delivering = [world.start("router").await, world.start("worker").await];
    let receivers = Receivers::failed_yesterday(&world).await;
    let posts_before = receivers.posts();

    let groups = world.json(&["dead-letters", "groups", "--by", "host"]).await;
    let of = |host: &str| {
        let groups = groups.as_array().unwrap();
        groups.iter().find(|it| it["value"] == host).unwrap().clone()
    };
    assert_eq!([&of("localhost")["count"], &of("127.0.0.1")["count"]], [8, 8]);
    let yesterday = ["--host", "localhost", "--since", "2d"];
    let causes = [&["dead-letters", "groups", "--by", "cause"][..], &yesterday].concat();
    let causes = world.json(&causes).await;
    assert_eq!([&causes[0]["value"], &causes[0]["count"]], [&json!("status 503"), &json!(FAILED)]);
    let list = [&["dead-letters", "list"][..], &yesterday].concat();
    let letters = world.json(&list).await;
    let statuses: Vec<&Value> =
        letters.as_array().unwrap().iter().map(|it| &it["lastStatus"]).collect();
    assert_eq!(statuses, [503; FAILED]);

    let replay = [&["dead-letters", "replay", "--canary"][..], &yesterday].concat();
    let counted = world.fanfare(&[&replay[..], &["--dry-run"]].concat()).await;
    assert_eq!(counted, format!("would replay {FAILED}\n"));
    assert_eq!(world.fanfare(&replay).await, format!("replayed {FAILED}\n"));
    let operation = &world.json(&["operations", "list"]).await[0];
    let said = ["state", "kind"].map(|name| operation[name].as_str().unwrap());
    assert_eq!(said, ["done", "replay"], "{operation}");
    receivers.assert_replayed(&world, posts_before).await;
}
