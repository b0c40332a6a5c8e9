//! Messages far larger than an event may be. RabbitMQ accepts up to 128 MiB, and sends a router as
//! many as its prefetch allows.

use std::collections::HashSet;

use fanfare_testkit::amqp_raw::RawAmqp;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{DEAD, EVENTS, assert_no_session_ended, structured};
use crate::world::{SOON, World, event};

const MIB: usize = 1024 * 1024;
/// The number of large messages. Together they are far larger than the memory a process may use.
const MESSAGES: usize = 30;
const SIZE: usize = 8 * MIB;
/// The number of large messages between two valid events.
const GOOD_EVERY: usize = 5;
/// The size of a message that is larger than all the memory for large bodies.
const HUGE: usize = 24 * MIB;
/// The limit of a process's memory in MiB, far below the total size of the messages. It is for a
/// debug build, which has 40 MiB when idle.
const MOST_MEMORY: usize = 140;

/// The largest memory that a process has used so far, in MiB.
fn peak(process: &Process) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

/// Runs a command that must succeed within the memory limit; returns its stdout.
async fn run_in_little_memory(world: &World, args: &[&str]) -> String {
    let mut process = world.spawn_with(args);
    let mut most = 0;
    eventually("it ends", 2 * SOON, async || {
        most = most.max(peak(&process).unwrap_or(0));
        !process.is_running()
    })
    .await;
    println!("{args:?}: {most} MiB");
    assert!(most < MOST_MEMORY, "{args:?} used {most} MiB");
    assert!(process.wait_exit(SOON).await.success(), "{:?}", process.lines());
    process.lines().join("\n")
}

/// An event that is valid except for its size. Events of the same number are equal.
fn large(number: usize, size: usize) -> Vec<u8> {
    let mut event = event();
    event["id"] = json!(format!("large-{number}"));
    event["data"]["Filler"] = json!("");
    let mut body = event.to_string().into_bytes();
    let at = body.len() - 3;
    body.splice(at..at, std::iter::repeat_n(b'x', size));
    body
}

#[tokio::test]
async fn large_messages_are_kept_whole_in_little_memory_and_block_no_others() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    // They are in the queue before the router starts, so that it gets as many at once as possible.
    world.start("router").await.terminate();
    let mut good = 0;
    for number in 0..MESSAGES {
        let size = if number == 7 { HUGE } else { SIZE };
        let body = large(number, size);
        raw.publish(EVENTS, b"tasks.execute", &structured(), &body).await.unwrap();
        raw.confirm().await.unwrap();
        if number % GOOD_EVERY == 0 {
            world.publish(&event()).await;
            good += 1;
        }
    }
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    receiver.wait_for(good, 2 * SOON).await;
    let amqp = world.amqp().await;
    eventually("each large one is a dead letter", 2 * SOON, async || {
        let found = amqp.queue_len(DEAD).await.unwrap() as usize;
        if found == MESSAGES { Ok(()) } else { Err(found) }
    })
    .await;
    let most = peak(&router).unwrap();
    println!("router: {most} MiB");
    assert!(most < MOST_MEMORY, "the router used {most} MiB");
    assert_no_session_ended(&[&router, &worker]);

    let listed = run_in_little_memory(&world, &["dead-letters", "list", "--json"]).await;
    // The log of letters that only the queue had comes before the list.
    let listed = &listed[listed.find("[{").or(listed.find("[\n")).unwrap()..];
    let listed: Vec<Value> = serde_json::from_str(listed).unwrap();
    assert_eq!(listed.len(), MESSAGES);
    assert!(listed.iter().all(|letter| letter["reason"] == "too-large"));
    let again =
        run_in_little_memory(&world, &["dead-letters", "replay", "--reason", "too-large"]).await;
    // The log, which this command writes too, comes before its result.
    assert!(again.ends_with(&format!("replayed {MESSAGES}")), "{again}");
    eventually("they are refused again", 2 * SOON, async || {
        let found = amqp.queue_len(DEAD).await.unwrap() as usize;
        if found == MESSAGES { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(peak(&router).unwrap() < MOST_MEMORY);
    let mut ids = HashSet::new();
    for _ in 0..MESSAGES {
        // A router that compares the queue with the ledger holds the letters for some seconds.
        let letter = eventually("there is another letter", SOON, async || {
            amqp.take(DEAD).await.unwrap().ok_or("none is ready")
        })
        .await;
        assert_eq!(letter.header("x-fanfare-reason").as_deref(), Some("too-large"));
        let detail = letter.header("x-fanfare-detail").unwrap();
        assert!(detail.contains("the limit is 1048576"), "{detail}");
        let event: Value = serde_json::from_slice(&letter.body).unwrap();
        let id = event["id"].as_str().unwrap().to_owned();
        let filler = event["data"]["Filler"].as_str().unwrap().len();
        assert_eq!(filler, if id == "large-7" { HUGE } else { SIZE }, "{id}");
        assert!(ids.insert(id), "one is there twice");
    }
    assert_eq!(amqp.queue_len(DEAD).await.unwrap(), 0);
}
