//! Attempts that two workers could make: a recheck beside its job, and a redelivered job beside a row
//! that is not written yet.

use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::receiver::Reply;
use fanfare_testkit::wait::pass;

use super::supervisor::{Crew, LIKELY};
use super::verdict::Verdict;
use super::{PACE, ROUTER, Scene, WORKER, is_first_attempt, one_event, world};

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
