//! Steps that need something special to be reached: documents, refused events and slow receivers.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::receiver::Reply;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::supervisor::{Crew, KILLS, LIKELY};
use super::verdict::Verdict;
use super::{PACE, ROUTER, Scene, WORKER, numbered, one_event, world};

const DOCUMENTS: Crew = Crew {
    role: "router",
    processes: 2,
    steps: &[
        Step::RouterAppliesDocuments,
        Step::RouterRecordsKept,
        Step::RouterKeeps,
        Step::RouterAcknowledgesKept,
        Step::DirectoryTakes,
        Step::DirectoryApplies,
        Step::DirectoryPublishes,
        Step::DirectoryAcknowledges,
    ],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

const SLOW: Crew = Crew {
    role: "worker",
    processes: 3,
    steps: &[Step::WorkerReleases],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

/// Workers that end seldom enough that a slow attempt is over before.
const LAST_AND_SLOW: Crew = Crew { steps: &[Step::WorkerRecords], kills: 8, percent: 10, ..SLOW };

/// The crews of these tests.
pub(super) const CREWS: [&Crew; 3] = [&DOCUMENTS, &SLOW, &LAST_AND_SLOW];

/// A document of the directory, an event that waits for it, and an event that is refused.
fn document_and_events(number: usize, revision: i64) -> Vec<Value> {
    let revision = revision + 1 + i64::try_from(number).unwrap();
    let document = json!({
        "specversion": "1.0", "id": format!("d{revision}"), "source": "/tests",
        "type": "directory.user", "accessrevision": revision,
        "data": { "name": "anna", "enabled": true, "roles": ["System Administrator"] }
    });
    let mut event = numbered(number);
    event["accessrevision"] = json!(revision);
    let mut refused = numbered(number);
    (refused["id"], refused["type"]) = (json!(format!("refused-{number}")), json!("other.execute"));
    vec![document, event, refused]
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_end_at_any_step_of_a_document_or_a_refused_event_lose_nothing() {
    let world = world().await;
    let scene = Scene {
        world: &world,
        crews: &[DOCUMENTS, WORKER],
        answer: |_, _| Reply::status(200),
        publish: document_and_events,
        pace: PACE,
    };
    let verdict = scene.survive().await;
    let refused: BTreeSet<String> =
        (0..verdict.events).map(|number| format!("refused-{number}")).collect();
    eventually("each refused event has a dead letter", Duration::from_mins(1), async || {
        let letters = world.json(&["dead-letters", "list", "--queue", "events"]).await;
        let event = |letter: &Value| letter["event"].as_str().unwrap_or_default().to_owned();
        let found: BTreeSet<String> = letters.as_array().unwrap().iter().map(event).collect();
        if found == refused { Ok(()) } else { Err(found.len()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_in_the_middle_of_a_slow_attempt_lose_nothing() {
    let scene = Scene {
        world: &world().await.with("FANFARE_TIMEOUT", "5s"),
        crews: &[ROUTER, SLOW],
        answer: |_, number| match number % 8 {
            0 => Reply::status(200).after(Duration::from_millis(2_500)),
            _ => Reply::status(200),
        },
        publish: one_event,
        pace: PACE,
    };
    scene.survive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_after_a_slow_last_attempt_leave_a_dead_letter() {
    let world = world().await.with("FANFARE_TIMEOUT", "5s").with("FANFARE_RETRY_ATTEMPTS", "1");
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, LAST_AND_SLOW],
        answer: |_, number| match number % 2 {
            0 => Reply::status(500).after(Duration::from_millis(2_500)),
            _ => Reply::status(200),
        },
        publish: one_event,
        pace: Duration::from_millis(300),
    };
    let played = scene.play(std::future::pending()).await;
    // What waits for the slow receiver ends soon.
    played.receiver.answer_with(|_, _| Reply::status(200));
    Verdict::of_all_webhooks(&world, &played).await;
}
