//! Two attempts under one number: the row in the ledger decides what follows, even if another worker
//! wrote it.

use std::time::Duration;

use fanfare_testkit::pgproxy::{Fault, Marker};
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::metrics::{Watched, listening};
use crate::world::{SOON, World, event};

/// How long a receiver takes: the other worker's row is written meanwhile.
const SLOW: Duration = Duration::from_secs(3);

/// The statement that writes the row of the first attempt.
fn row_of_another(webhook: &str, state: &str) -> String {
    format!(
        "insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason, at,
                               outcome, status, revision, received_at)
         select batch, '{webhook}', 1, 1, 1, received_at, '{state}',
                case when '{state}' = 'dead' then 'exhausted' end, received_at,
                case when '{state}' = 'dead' then 'status' else 'delivered' end,
                case when '{state}' = 'dead' then 500 else 200 end, 0, received_at
         from events"
    )
}

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
    world.sql(&row_of_another(&webhook, state));
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

#[tokio::test]
async fn a_dead_row_written_while_its_redelivered_job_is_deferred_gets_its_dead_letter() {
    let world = listening(World::new().await).with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500).after(SOON));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, mut first) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    let other = Watched::start(&world, "worker").await;
    first.kill9();
    // The redelivered job is deferred twice: until the first worker has taken a lease, and until the
    // lease is over.
    eventually("the first deferral", SOON, async || {
        world.sql("select count(*) from claims where deferred_until is not null") == "1"
    })
    .await;
    world.sql("update claims set token = gen_random_uuid(), until = now() + interval '1 minute'");
    other.exports(&[("deliveries_deferred_total{reason=\"claimed\"}", 1.0)]).await;
    // What the first worker wrote last.
    world.sql(&row_of_another(&webhook, "dead"));
    eventually("a dead letter", SOON, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let of = |it: &Value| (it["reason"].clone(), it["owner"].clone());
        let letters: Vec<_> = letters.as_array().unwrap().iter().map(of).collect();
        if letters == [(json!("exhausted"), json!("anna"))] { Ok(()) } else { Err(letters) }
    })
    .await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_worker_that_stops_while_it_pauses_a_webhook_still_records_the_attempt() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(410));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, mut worker) = world.start_proxied("worker").await;
    let mut pausing = proxy.inject_always(Marker::statement("address_pause"), Fault::CloseBefore);
    world.publish(&event()).await;
    pausing.hit().await;
    worker.terminate();
    worker.wait_for_line("handing back the work", SOON).await;
    proxy.clear();
    worker.wait_exit(SOON).await;
    let _worker = world.start("worker").await;
    world.deliveries(&webhook, "delivered", 1).await;
    let paused = world.json(&["webhooks", "list"]).await;
    assert_eq!(paused[0]["IsPaused"], json!(true), "{paused}");
    assert_eq!(receiver.count(), 1, "it got the notification twice");
}
