//! Attempts that two workers could make: a recheck beside its job, and a redelivered job beside a row
//! that is not written yet, or beside the same attempt in the memory of the worker that had it.

use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::pgproxy::{Fault, Marker};
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::{eventually, pass};

use super::supervisor::{Crew, LIKELY};
use super::verdict::Verdict;
use super::{PACE, PATHS, ROUTER, Scene, WORKER, is_first_attempt, numbered, one_event, world};
use crate::world::{SOON, publish_on};

/// A router that ends here has published the jobs of events that are delivered again, so each gets a
/// recheck.
const PUBLISHERS: Crew = Crew {
    role: "router",
    processes: 2,
    steps: &[Step::RouterPublishes],
    kills: 3,
    percent: LIKELY,
    in_turn: false,
};

const WORKERS: Crew = Crew { processes: 2, ..WORKER };

/// How often the sessions with the broker end.
const RESETS: usize = 8;

/// Makes each statement that writes rows of attempts wait before it does.
fn slow_rows(wait: Duration) -> String {
    format!(
        "create function wait_for_row() returns trigger language plpgsql
             as 'begin perform pg_sleep({}); return null; end';
         create trigger slow_rows before insert on attempts
             for each statement execute function wait_for_row()",
        wait.as_secs_f64()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rechecks_of_jobs_that_wait_in_their_queue_send_nothing_twice() {
    // The worker has one job at a time, so that the last ones wait for longer than a recheck does.
    let world = world().await.with("FANFARE_PREFETCH", "1");
    world.sql(&slow_rows(Duration::from_millis(50)));
    let scene = Scene {
        world: &world,
        crews: &[PUBLISHERS],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: PACE,
    };
    let played = scene.play(std::future::pending()).await;
    let _worker = world.spawn("worker");
    let verdict = Verdict::of_all_webhooks(&world, &played).await;
    assert_eq!(verdict.duplicates, 0, "no worker ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_lose_their_sessions_before_their_rows_are_written_send_nothing_twice() {
    let (world, proxy) = world().await.with_broker_proxy();
    // Long enough that a redelivered job reaches another worker meanwhile.
    world.sql(&slow_rows(Duration::from_millis(700)));
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, WORKERS],
        answer: |request, _| Reply::status(if is_first_attempt(request) { 500 } else { 200 }),
        publish: one_event,
        pace: PACE,
    };
    let reset = async {
        for _ in 0..RESETS {
            pass(Duration::from_secs(2)).await;
            proxy.reset();
        }
    };
    let played = scene.play(reset).await;
    let verdict = Verdict::of_all_webhooks(&world, &played).await;
    assert_eq!(verdict.duplicates, 0, "no worker ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn rechecks_wait_for_the_answers_of_workers_that_live() {
    let world = world().await.with("FANFARE_TIMEOUT", "15s");
    // Longer than a recheck is put off at first. The receiver answers at once, because one that is slow
    // gets nothing else meanwhile.
    world.sql(&slow_rows(Duration::from_secs(5)));
    let scene = Scene {
        world: &world,
        crews: &[PUBLISHERS, WORKERS],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: Duration::from_millis(200),
    };
    let played = scene.play(std::future::pending()).await;
    let verdict = Verdict::of_all_webhooks(&world, &played).await;
    assert_eq!(verdict.duplicates, 0, "no worker ended");
}

/// Ends the database sessions that have the locks of workers: no other lock has two numbers.
const END_LOCK_SESSIONS: &str = "
    select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and objsubid = 2 and mode = 'ExclusiveLock'
      and database = (select oid from pg_database where datname = current_database())";

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_lose_both_their_sessions_and_open_others_send_nothing_twice() {
    let (world, proxy) = world().await.with_broker_proxy();
    // Shorter than the time after which a worker without a lock counts as dead.
    world.sql(&slow_rows(Duration::from_millis(1_000)));
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, WORKERS],
        answer: |request, _| Reply::status(if is_first_attempt(request) { 500 } else { 200 }),
        publish: one_event,
        pace: PACE,
    };
    let reset = async {
        for _ in 0..RESETS {
            pass(Duration::from_secs(3)).await;
            world.sql(END_LOCK_SESSIONS);
            proxy.reset();
        }
    };
    let played = scene.play(reset).await;
    let verdict = Verdict::of_all_webhooks(&world, &played).await;
    assert_eq!(verdict.duplicates, 0, "no worker ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_waited_until_another_worker_made_them_are_not_begun() {
    const EVENTS: usize = 6;
    let world = world().await.with("FANFARE_LOG", "info");
    let direct = world.amqp_url.clone();
    let (world, mut broker) = world.with_broker_proxy();
    let receiver = Receiver::start().await;
    for path in PATHS {
        world.webhook(&receiver.url(path)).await;
    }
    let directly = [("FANFARE_AMQP_URL", direct.as_str())];
    let router = world.spawn_with_envs("router", &directly);
    router.wait_for_line("connected to the broker", SOON).await;
    let (database, mut first) = world.start_proxied("worker").await;
    // The first worker sends one event, can't record it, and begins no other attempt.
    let mut rows = database.inject_always(Marker::statement("attempts_record"), Fault::CloseBefore);
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    publish_on(&amqp, &numbered(0)).await;
    rows.hit().await;
    for number in 1..EVENTS {
        publish_on(&amqp, &numbered(number)).await;
    }
    let jobs = Amqp::connect(&direct).await.unwrap();
    eventually("the first worker has all jobs", SOON, async || {
        let left = jobs.queue_len("fanfare.deliveries").await.unwrap();
        let planned = world.sql("select count(*) from events");
        if left == 0 && planned == EVENTS.to_string() { Ok(()) } else { Err((left, planned)) }
    })
    .await;
    broker.cut().await;
    first.wait_for_line("the connection to the broker was lost", SOON).await;
    let second = world.spawn_with_envs("worker", &directly);
    second.wait_for_line("connected to the broker", SOON).await;
    eventually("the other worker has made all attempts", 2 * SOON, async || {
        let rows = world.sql("select count(*) from attempts where state = 'delivered'");
        if rows == (EVENTS * PATHS.len()).to_string() { Ok(()) } else { Err(rows) }
    })
    .await;
    let count = receiver.count();
    database.clear();
    first.wait_for_line("attempts were made that were in the ledger already", SOON).await;
    // A worker that stops ends what it has begun.
    first.terminate();
    first.wait_exit(SOON).await;
    assert_eq!(receiver.count(), count, "attempts that were made already were begun");
}
