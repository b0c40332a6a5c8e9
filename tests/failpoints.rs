//! Processes that end at each step between two durable actions, tens of times, while events are
//! published: nothing is lost, and only what was under way is sent twice.

mod contended;
mod disturbed;
mod rare;
mod supervisor;
mod traces;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfare_failpoints::Step;
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::pass;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::kept;
use crate::notices;
use crate::world::{SOON, World, publish_on};
use supervisor::{Crew, KILLS, LIKELY, Supervisor};
use verdict::Verdict;

/// The time between two events, in most scenes.
const PACE: Duration = Duration::from_millis(40);

/// The webhooks' paths.
const PATHS: [&str; 2] = ["/a", "/b"];

/// A router, and a worker, that no failpoint ends.
const ROUTER: Crew =
    Crew { role: "router", processes: 1, steps: &[], kills: 0, percent: 0, in_turn: false };
const WORKER: Crew =
    Crew { role: "worker", processes: 1, steps: &[], kills: 0, percent: 0, in_turn: false };

const ROUTERS: Crew = Crew {
    role: "router",
    processes: 2,
    steps: &[Step::RouterTakes, Step::RouterPlans, Step::RouterPublishes, Step::RouterAcknowledges],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

const FIRST_ATTEMPTS: Crew = Crew {
    role: "worker",
    processes: 2,
    steps: &[
        Step::WorkerTakes,
        Step::WorkerBegins,
        Step::WorkerSends,
        Step::WorkerRecords,
        Step::WorkerNotesDeferral,
        Step::WorkerPublishes,
        Step::WorkerAcknowledges,
    ],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

const LATER_ATTEMPTS: Crew = Crew {
    role: "worker",
    processes: 2,
    steps: &[Step::WorkerReads, Step::WorkerRecords, Step::WorkerPublishesDeadLetter],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

/// A world for processes that end often: they hold little at a time, and wait for little.
async fn world() -> World {
    World::new()
        .await
        .with("FANFARE_LOG", "warn")
        .with("FANFARE_TIMEOUT", "2s")
        .with("FANFARE_PREFETCH", "16")
        .with("FANFARE_CONCURRENCY", "16")
}

/// The event with this number.
fn numbered(number: usize) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{number}"), "source": "/tests",
        "type": "tasks.execute", "subject": "tasks/t1", "data": { "Number": number }
    })
}

/// What is published under a number: its event alone.
fn one_event(number: usize, _revision: i64) -> Vec<Value> {
    vec![numbered(number)]
}

/// Whether the receiver refuses this request: the first attempts of one webhook, and all attempts of
/// the other one.
fn fails(request: &Request) -> bool {
    request.path == PATHS[1] || is_first_attempt(request)
}

/// Whether this request is a first attempt.
fn is_first_attempt(request: &Request) -> bool {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    body["Attempt"] == json!(1)
}

/// What happens to an installation.
struct Scene<'a> {
    world: &'a World,
    crews: &'a [Crew],
    /// How the receiver answers.
    answer: fn(&Request, usize) -> Reply,
    /// What is published under a number, when the directory began at a revision.
    publish: fn(usize, i64) -> Vec<Value>,
    /// The time between two numbers.
    pace: Duration,
}

/// A scene that was played. Its processes run on.
struct Played<'a> {
    receiver: Receiver,
    supervisor: Supervisor<'a>,
    /// The number of events that the broker confirmed.
    events: usize,
    _processes: Vec<Process>,
}

impl<'a> Scene<'a> {
    /// Lets the failpoints of the crews end processes, while events are published and `meanwhile` goes
    /// on. Without failpoints, the scene ends with `meanwhile`.
    async fn play(self, meanwhile: impl Future<Output = ()>) -> Played<'a> {
        let Self { world, crews, answer, publish, pace } = self;
        let receiver = Receiver::start().await;
        receiver.answer_with(answer);
        for path in PATHS {
            world.webhook(&receiver.url(path)).await;
        }
        // It makes the queues, without which no event is confirmed.
        let first = world.spawn_with_envs("router", &[("FANFARE_LOG", "info")]);
        first.wait_for_line("connected to the broker", SOON).await;
        drop(first);
        let supervisor = Supervisor::new(world);
        let (done, began) = (AtomicBool::new(false), Instant::now());
        let each = crews.iter().flat_map(|crew| std::iter::repeat_n(*crew, crew.processes));
        let supervised = async {
            let all = join_all(each.map(|crew| supervisor.supervise(crew)));
            let processes = if crews.iter().all(|crew| crew.steps.is_empty()) {
                join(all, meanwhile).await.0
            } else {
                tokio::select! {
                    processes = all => processes,
                    () = async { meanwhile.await; std::future::pending().await } => Vec::new(),
                }
            };
            done.store(true, Ordering::Relaxed);
            processes
        };
        let published = publish_until(world, publish, pace, &done);
        let (events, processes) = tokio::join!(published, supervised);
        let (counts, took) = (supervisor.counts(), began.elapsed());
        println!("{counts:?} in {took:?}, {events} events");
        Played { receiver, supervisor, events, _processes: processes }
    }

    /// Plays the scene with nothing else going on, and checks what happened against the promises.
    async fn survive(self) -> Verdict {
        let world = self.world;
        let played = self.play(std::future::pending()).await;
        Verdict::of_all_webhooks(world, &played).await
    }

    /// The same; the traces of the deliveries must be runs of the model too, and no other order of their
    /// steps.
    async fn survive_as_the_model(self) -> Verdict {
        let world = self.world;
        let played = self.play(std::future::pending()).await;
        let verdict = Verdict::of_all_webhooks(world, &played).await;
        let few = traces::FEW_UNEXPLAINED;
        traces::are_runs_of_the_model(world, &played.supervisor, few).await;
        traces::are_no_runs_with_two_steps_swapped(world, &played.supervisor);
        verdict
    }
}

/// Publishes until `done`; returns the number of events.
async fn publish_until(
    world: &World,
    messages: fn(usize, i64) -> Vec<Value>,
    pace: Duration,
    done: &AtomicBool,
) -> usize {
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    let revision: i64 = world.sql("select revision from directory_state").parse().unwrap();
    let mut published = 0;
    while !done.load(Ordering::Relaxed) {
        for message in messages(published, revision) {
            publish_on(&amqp, &message).await;
        }
        published += 1;
        pass(pace).await;
    }
    published
}

#[test]
fn each_failpoint_ends_processes_in_one_of_these_tests() {
    let own = [&ROUTERS, &FIRST_ATTEMPTS, &LATER_ATTEMPTS];
    let crews = own.into_iter().chain(rare::CREWS).chain(disturbed::CREWS);
    let mut tried: BTreeSet<&str> =
        crews.flat_map(|crew| crew.steps).map(|step| step.name()).collect();
    tried.extend(kept::STEPS.map(Step::name));
    tried.extend(notices::STEPS.map(Step::name));
    let all: BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();
    let untried: Vec<&str> = all.difference(&tried).copied().collect();
    assert_eq!(untried, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_end_at_any_step_lose_nothing() {
    let scene = Scene {
        world: &world().await,
        crews: &[ROUTERS, WORKER],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: PACE,
    };
    let verdict = scene.survive_as_the_model().await;
    assert_eq!(verdict.duplicates, 0, "no worker ended");
    assert_eq!(verdict.states, BTreeMap::from([("delivered".to_owned(), verdict.deliveries)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_at_any_step_of_a_first_attempt_lose_nothing() {
    let scene = Scene {
        world: &world().await,
        crews: &[ROUTER, FIRST_ATTEMPTS],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: PACE,
    };
    scene.survive_as_the_model().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_at_any_step_of_a_later_attempt_lose_nothing() {
    let scene = Scene {
        world: &world().await.with("FANFARE_RETRY_ATTEMPTS", "2"),
        crews: &[ROUTER, LATER_ATTEMPTS],
        answer: |request, _| Reply::status(if fails(request) { 500 } else { 200 }),
        publish: one_event,
        pace: PACE,
    };
    scene.survive().await;
}
