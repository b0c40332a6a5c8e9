//! A receiver, or an owner, that says how fast a webhook wants its notifications.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::Value;

use crate::world::{World, event};

/// Long enough for what is to be slow.
const SLOWLY: Duration = Duration::from_secs(240);

/// When a receiver was asked, and whether it took the request.
type Log = Arc<Mutex<Vec<(Instant, bool)>>>;

fn log(log: &Log) -> Vec<(Instant, bool)> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Takes one request in each `every`, and refuses the others.
fn one_each(receiver: &Receiver, every: Duration, retry_after: &'static str) -> Log {
    let seen = Log::default();
    let kept = Arc::clone(&seen);
    receiver.answer_with(move |request, _| {
        let mut seen = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.iter().rev().find(|(_, taken)| *taken).map(|(at, _)| *at);
        let taken = last.is_none_or(|last| request.at.duration_since(last) >= every);
        seen.push((request.at, taken));
        if taken {
            Reply::status(200)
        } else {
            Reply::status(429).with_header("retry-after", retry_after)
        }
    });
    seen
}

async fn two_workers(world: &World) -> (Process, Process, Process) {
    (world.start("router").await, world.start("worker").await, world.start("worker").await)
}

async fn publish(world: &World, events: usize) {
    for _ in 0..events {
        world.publish(&event()).await;
    }
}

async fn delivered(world: &World, webhook: &str, count: usize) -> Vec<Value> {
    fanfare_testkit::wait::eventually("everything is delivered", SLOWLY, async || {
        let limit = count.to_string();
        let list = ["deliveries", "list", "--webhook", webhook, "--limit", &limit];
        let list = world.json(&list).await.as_array().unwrap().clone();
        let is_done = list.len() == count && list.iter().all(|it| it["state"] == "delivered");
        if is_done { Ok(list) } else { Err(format!("{list:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_receiver_of_one_request_a_second_gets_forty_events_in_a_minute_by_sixty_posts() {
    let world = World::new()
        .await
        .with("FANFARE_RETRY_FIRST", "5s")
        .with("FANFARE_RETRY_MAX_DELAY", "12h")
        .with("FANFARE_RETRY_ATTEMPTS", "12");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let seen = one_each(&receiver, Duration::from_secs(1), "3");
    let _processes = two_workers(&world).await;
    publish(&world, 40).await;
    delivered(&world, &webhook, 40).await;
    let seen = log(&seen);
    let took = seen.last().unwrap().0.duration_since(seen.first().unwrap().0);
    eprintln!("{} POSTs in {took:?}", seen.len());
    for (at, taken) in &seen {
        eprintln!("{:?} {taken}", at.duration_since(seen[0].0));
    }
    assert!(seen.len() <= 60, "{} POSTs", seen.len());
    assert!(took <= Duration::from_mins(1), "{took:?}");
}
