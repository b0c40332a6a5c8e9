//! Two attempts under one number: the row in the ledger decides what follows, even if another worker
//! wrote it.

use std::time::Duration;

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::world::{SOON, World, event};

/// How long a receiver takes: the other worker's row is written meanwhile.
const SLOW: Duration = Duration::from_secs(3);

/// An attempt that this worker makes while another one, which had it before and was stopped, records
/// its own under the same number.
async fn recorded_by_another(status: u16, state: &str) -> (World, String, Process) {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    receiver.answer_with(move |_, _| Reply::status(status).after(SLOW));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    world.sql(&format!(
        "insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason, at,
                               outcome, status, revision)
         select batch, '{webhook}', 1, 1, 1, received_at, '{state}',
                case when '{state}' = 'dead' then 'exhausted' end, received_at,
                case when '{state}' = 'dead' then 'status' else 'delivered' end,
                case when '{state}' = 'dead' then 500 else 200 end, 0
         from events"
    ));
    worker.wait_for_line("attempts were made that were in the ledger already", SOON).await;
    (world, webhook, worker)
}

#[tokio::test]
async fn a_row_that_another_worker_wrote_as_dead_gets_its_dead_letter() {
    let (world, webhook, _worker) = recorded_by_another(200, "dead").await;
    eventually("a dead letter", SOON, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let reasons: Vec<_> = letters.as_array().unwrap().iter().map(|it| &it["reason"]).collect();
        if reasons == [&json!("exhausted")] { Ok(()) } else { Err(letters) }
    })
    .await;
    world.deliveries(&webhook, "dead", 1).await;
}

#[tokio::test]
async fn a_row_that_another_worker_wrote_as_delivered_has_no_dead_letter() {
    let (world, webhook, mut worker) = recorded_by_another(500, "delivered").await;
    // A worker that has ended has published all it had to.
    worker.terminate();
    assert!(worker.wait_exit(SOON).await.success());
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    world.deliveries(&webhook, "delivered", 1).await;
}
