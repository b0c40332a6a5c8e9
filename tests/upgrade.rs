//! An upgrade, and the way back, while events come in: the processes of this version and of the commit
//! before work on one database and one broker.

use std::collections::{HashMap, HashSet};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::outages::publish_steadily;
use crate::world::{SOON, World};

/// The POSTs in each part of the test.
const LOAD: usize = 150;

/// A router and a worker of one version.
async fn start(version: &World) -> [Process; 2] {
    [version.start("router").await, version.start("worker").await]
}

/// Ends processes as an operator does who replaces them.
async fn stop(processes: [Process; 2]) {
    for mut process in processes {
        process.terminate();
        assert!(process.wait_exit(SOON).await.success());
    }
}

/// The number of a webhook's deliveries whose last row has this state.
fn count(world: &World, webhook: &str, state: &str) -> usize {
    let last = format!(
        "select distinct on (batch) state from attempts where webhook = '{webhook}'
         order by batch, entry desc"
    );
    let count = world.sql(&format!("select count(*) from ({last}) last where state = '{state}'"));
    count.parse().unwrap()
}

/// The number, the `Id` and the `Attempt` of a POST.
fn read(request: &Request) -> (u64, String, u64) {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let number = body["Notifications"][0]["Number"].as_u64().unwrap();
    (number, body["Id"].as_str().unwrap().to_owned(), body["Attempt"].as_u64().unwrap())
}

/// Whether all four attempts of a delivery are refused, so that it becomes a dead letter. They are too
/// few for the receiver to count as failing.
fn dies(number: u64) -> bool {
    number.is_multiple_of(20)
}

/// How often a receiver refuses a delivery: each tenth one needs a retry.
fn refusals(number: u64) -> u64 {
    if dies(number) { 4 } else { u64::from(number.is_multiple_of(10)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_and_rollback_under_load_lose_nothing_and_repeat_nothing() {
    let (old, new) = World::of_two_versions().await;
    old.fanfare(&["migrate"]).await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| {
        let (number, _, attempt) = read(request);
        Reply::status(if attempt > refusals(number) { 200 } else { 503 })
    });
    let webhook = old.webhook(&receiver.url("/hook")).await;
    let ended = tokio::sync::Notify::new();
    let replacing = async {
        let flows = async |what: &str| {
            let more = receiver.count() + LOAD;
            eventually(what, SOON, async || receiver.count() > more).await;
        };
        let before = start(&old).await;
        flows("the version before works").await;
        new.fanfare(&["migrate"]).await;
        flows("it works on the new tables").await;
        let after = start(&new).await;
        flows("both work side by side").await;
        stop(before).await;
        flows("this version works alone").await;
        let before = start(&old).await;
        flows("both work again").await;
        stop(after).await;
        flows("the version before works on what this one left").await;
        let after = start(&new).await;
        ended.notify_one();
        (before, after)
    };
    let (published, _processes) = tokio::join!(publish_steadily(&new, &ended), replacing);
    let dead = (0..published as u64).filter(|number| dies(*number)).count();
    let all = [(published - dead, "delivered"), (dead, "dead")];
    eventually("all deliveries have ended", 3 * SOON, async || {
        let counts = all.map(|(_, state)| (count(&old, &webhook, state), state));
        if counts == all { Ok(()) } else { Err((counts, all)) }
    })
    .await;
    // Each version replays letters of both.
    let letters = old.json(&["dead-letters", "list"]).await;
    let ids: Vec<&str> =
        letters.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), dead);
    let (first, second) = ids.split_at(ids.len() / 2);
    old.fanfare(&[&["dead-letters", "replay"], first].concat()).await;
    new.fanfare(&[&["dead-letters", "replay"], second].concat()).await;
    eventually("the replayed are delivered", 3 * SOON, async || {
        let count = count(&old, &webhook, "delivered");
        if count == published { Ok(()) } else { Err((count, published)) }
    })
    .await;
    assert_eq!(new.json(&["dead-letters", "list"]).await, json!([]));
    let mut attempts: HashMap<String, HashSet<u64>> = HashMap::new();
    for request in receiver.requests() {
        let (_, id, attempt) = read(&request);
        let is_new = attempts.entry(id.clone()).or_default().insert(attempt);
        assert!(is_new, "attempt {attempt} of {id} was made twice");
    }
    assert_eq!(attempts.len(), published);
}
