//! The keys that seal secrets are replaced while all processes run.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use crate::world::{SECRET, SOON, World, event, unique};

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A number of webhooks for more than two batches, so that the command can be interrupted.
const WEBHOOKS: usize = 1101;

/// The number of secrets that a key seals.
fn sealed_by(world: &World, key: &str) -> usize {
    let sql = format!(
        "select count(*) from webhooks where sealed <> '' \
         and encode(substring(sealed from 2 for get_byte(sealed, 0)), 'escape') = '{key}'"
    );
    world.sql(&sql).parse().unwrap()
}

/// Registers webhooks that stay paused.
async fn import(world: &World) {
    let one = |n: usize| {
        json!({
            "Id": unique(), "WebHookUri": format!("http://127.0.0.1:9/{n}"), "Secret": SECRET, "IsPaused": true,
            "Filters": ["tasks"], "User": "anna"
        })
    };
    let list: Vec<Value> = (0..WEBHOOKS).map(one).collect();
    let list = Value::from(list).to_string();
    world.fanfare_with(&["webhooks", "import", "-", "--no-verify"], Some(&list)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_can_be_replaced_while_all_processes_run() {
    let receiver = Receiver::start().await;
    let world = World::new().await.with("FANFARE_SECRET_KEYS", OLD);
    let world = world.with("FANFARE_WEBHOOKS_PER_OWNER", "2000");
    world.webhook(&receiver.url("/")).await;
    import(&world).await;

    // Every process has the new key before any of them uses it.
    let world = world.with("FANFARE_SECRET_KEYS", &format!("{NEW},{OLD}"));
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    let all = WEBHOOKS + 1;
    let plan = world.fanfare(&["secrets", "rotate-keys", "--dry-run"]).await;
    assert!(plan.contains(&format!("old: the secrets of {all} webhooks would be")), "{plan}");
    assert_eq!((sealed_by(&world, "old"), sealed_by(&world, "new")), (all, 0));

    // When the command is stopped in the middle, it leaves complete batches.
    let mut interrupted = world.spawn_with(&["secrets", "rotate-keys"]);
    interrupted.wait_for_line("encrypted again", SOON).await;
    interrupted.kill9();
    let left = sealed_by(&world, "old");
    assert!(left < all && left + sealed_by(&world, "new") == all, "{left}");

    // A second run completes the work; a third one finds nothing to do.
    let done = world.fanfare(&["secrets", "rotate-keys"]).await;
    assert!(done.contains("the key old encrypts nothing any more"), "{done}");
    assert_eq!((sealed_by(&world, "old"), sealed_by(&world, "new")), (0, all));
    assert_eq!(world.fanfare(&["secrets", "rotate-keys"]).await, done);

    // Processes with both keys work, and so do processes with the new one only.
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    drop(worker);
    let world = world.with("FANFARE_SECRET_KEYS", NEW);
    let _worker = world.start("worker").await;
    world.publish(&event()).await;
    for request in receiver.wait_for(2, SOON).await {
        assert!(request.header("ms-signature").is_some());
    }
}

#[tokio::test]
async fn secret_with_a_missing_key_is_named_and_left_unchanged() {
    let world = World::new().await.with("FANFARE_SECRET_KEYS", OLD);
    let webhook = world.webhook("http://127.0.0.1:9/").await;
    let world = world.with("FANFARE_SECRET_KEYS", NEW);
    let output = world.run(&["secrets", "rotate-keys"], None).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains(&webhook) && output.stderr.contains("'old'"), "{output:?}");
    assert_eq!(sealed_by(&world, "old"), 1);
}
