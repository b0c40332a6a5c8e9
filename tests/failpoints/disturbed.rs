//! Steps that are reached only while something disturbs an installation: receivers that are gone, rows
//! and snapshots that are refused, lost sessions, lost jobs, and people who send dead deliveries again.

use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::receiver::Reply;
use fanfare_testkit::wait::{eventually, pass};
use serde_json::{Value, json};

use super::supervisor::{Crew, KILLS, LIKELY, REACHED};
use super::verdict::Verdict;
use super::{PACE, ROUTER, Scene, WORKER, is_first_attempt, one_event, world};
use crate::world::{World, publish_on, unique};

/// How often a failpoint ends a process if a new process reaches it only after many seconds.
const FEW: usize = 2;

/// The time between two events where little load is enough.
const SLOW_PACE: Duration = Duration::from_millis(200);

const GONE: Crew = Crew {
    role: "worker",
    processes: 2,
    steps: &[Step::WorkerPauses],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

const WAITING: Crew = Crew { steps: &[Step::WorkerPostpones], kills: FEW, percent: 100, ..GONE };

const HELD: Crew = Crew { steps: &[Step::WorkerReleasesLease], ..GONE };

const CUT_OFF: Crew = Crew {
    role: "worker",
    processes: 3,
    steps: &[Step::WorkerSecures],
    kills: FEW,
    percent: 100,
    in_turn: false,
};

/// Routers that end at each step of reconciling, one step after the other: a router must watch the queues
/// for a while before it knows that a job is lost, and one that no failpoint ends would always be the
/// first to know.
const RECONCILERS: Crew = Crew {
    role: "router",
    processes: 2,
    steps: &[Step::ReconcilerLeases, Step::Reconciles, Step::ReconcilerNotes],
    kills: FEW,
    percent: 100,
    in_turn: true,
};

/// Routers that end in the middle of a bulk operation's step.
const OPERATING: Crew = Crew {
    role: "router",
    processes: 2,
    steps: &[Step::OperationSettles, Step::OperationPublishes],
    kills: KILLS,
    percent: LIKELY,
    in_turn: false,
};

/// The crews of these tests.
pub(super) const CREWS: [&Crew; 6] = [&GONE, &WAITING, &HELD, &CUT_OFF, &RECONCILERS, &OPERATING];

/// Lets the ledger refuse rows of attempts while `ledger_fault` says so, as a database does that is
/// about to stop.
const REFUSED_ROWS: &str = "
    create table ledger_fault as select false as refuses;
    grant select on ledger_fault to public;
    create function refuse_row() returns trigger language plpgsql as $$begin
        if (select refuses from ledger_fault) then
            raise exception 'no rows' using errcode = 'cannot_connect_now';
        end if;
        return null;
    end$$;
    create trigger refused_rows before insert on attempts
        for each statement execute function refuse_row()";

/// Does something again and again.
async fn repeat(pause: Duration, mut what: impl AsyncFnMut()) {
    loop {
        pass(pause).await;
        what().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_when_a_receiver_is_gone_lose_nothing() {
    let world = world().await;
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, GONE],
        answer: |_, _| Reply::status(410),
        publish: one_event,
        pace: PACE,
    };
    let resume = repeat(Duration::from_millis(200), async || {
        for webhook in world.sql("select id from webhooks where paused").lines() {
            world.fanfare(&["webhooks", "resume", webhook]).await;
        }
    });
    let played = scene.play(resume).await;
    Verdict::reach(&world, &played).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_when_an_attempt_has_waited_for_too_long_lose_nothing() {
    let world = world().await;
    world.sql(REFUSED_ROWS);
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, WAITING],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: PACE,
    };
    // No attempt begins while rows are refused. Those that have waited for five seconds are put off.
    let refuse = repeat(Duration::from_secs(3), async || {
        world.sql("update ledger_fault set refuses = true");
        pass(Duration::from_secs(7)).await;
        world.sql("update ledger_fault set refuses = false");
    });
    let played = scene.play(refuse).await;
    world.sql("update ledger_fault set refuses = false");
    Verdict::of_all_webhooks(&world, &played).await;
}

/// A snapshot of the directory in which `anna` may read everything, or one that is refused.
fn snapshot(revision: i64, is_valid: bool) -> Value {
    let enabled = if is_valid { json!(true) } else { json!("no") };
    let anna = json!({ "name": "anna", "enabled": enabled, "roles": ["System Administrator"] });
    json!({
        "specversion": "1.0", "id": unique(), "source": "/tests", "type": "directory.snapshot",
        "accessrevision": revision, "data": { "users": [anna], "roles": [] }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_while_the_directory_is_held_lose_nothing() {
    // The directory is held again and again. An event that is looked at only then becomes a dead letter.
    let world = world().await.with("FANFARE_DIRECTORY_HOLD", "1h");
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, HELD],
        answer: |request, _| Reply::status(if is_first_attempt(request) { 500 } else { 200 }),
        publish: one_event,
        pace: PACE,
    };
    let amqp = world.amqp().await;
    let mut revision = 1_000;
    let hold = repeat(Duration::from_secs(2), async || {
        publish_on(&amqp, &snapshot(revision, revision % 2 == 1)).await;
        revision += 1;
    });
    let played = scene.play(hold).await;
    publish_on(&amqp, &snapshot(1_000_000, true)).await;
    Verdict::of_all_webhooks(&world, &played).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_after_they_lost_their_session_lose_nothing() {
    let (world, proxy) = world().await.with_broker_proxy();
    let scene = Scene {
        world: &world,
        crews: &[ROUTER, CUT_OFF],
        answer: |_, _| Reply::status(200).after(Duration::from_millis(700)),
        publish: one_event,
        pace: PACE,
    };
    // Not before attempts were recorded over the sessions that are open: a machine may need longer than
    // the pause to open them.
    let mut recorded = 0;
    let reset = repeat(Duration::from_secs(3), async || {
        recorded = eventually("other attempts are recorded", REACHED, async || {
            let rows: usize = world.sql("select count(*) from attempts").parse().unwrap();
            (rows > recorded).then_some(rows)
        })
        .await;
        proxy.reset();
    });
    let played = scene.play(reset).await;
    Verdict::of_all_webhooks(&world, &played).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcilers_that_end_at_any_step_lose_nothing() {
    let world = world().await;
    let scene = Scene {
        world: &world,
        crews: &[RECONCILERS, WORKER],
        answer: |_, _| Reply::status(200),
        publish: one_event,
        pace: SLOW_PACE,
    };
    let amqp = world.amqp().await;
    // Another consumer takes half of the jobs, and attempts nothing.
    let lose_jobs = async { amqp.lose("fanfare.deliveries").await.unwrap() };
    let played = scene.play(lose_jobs).await;
    drop(amqp);
    Verdict::of_all_webhooks(&world, &played).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_end_in_the_middle_of_a_resend_lose_nothing() {
    let world = world().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let scene = Scene {
        world: &world,
        crews: &[OPERATING, WORKER],
        answer: |_, _| Reply::status(500),
        publish: one_event,
        pace: SLOW_PACE,
    };
    let played = scene.play(resend_for_ever(&world)).await;
    Verdict::of_all_webhooks(&world, &played).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_end_in_the_middle_of_an_operation_lose_nothing() {
    let world = world().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let scene = Scene {
        world: &world,
        crews: &[OPERATING, WORKER],
        answer: |_, _| Reply::status(500),
        publish: one_event,
        pace: SLOW_PACE,
    };
    let replay_for_ever = repeat(Duration::from_millis(300), async || {
        world.sql(REPLAY_ALL);
    });
    let played = scene.play(replay_for_ever).await;
    // What is not attempted yet ends soon, since the receiver recovers.
    played.receiver.answer_with(|_, _| Reply::status(200));
    Verdict::of_all_webhooks(&world, &played).await;
}

/// Begins an operation with all dead deliveries, unless there is one. It is put where any router finds
/// it, because an API would need a console.
const REPLAY_ALL: &str = "
    with begun as (
        insert into operations (id, kind, filter, canary, door, total)
        select gen_random_uuid(), 'replay', '{}', false, 'cli', count(*) from dead_letters
        where settled_at is null and kind = 'deliveries'
        having count(*) > 0 and not exists (select from operations where state = 'running')
        returning id
    )
    insert into operation_letters (operation, position, letter, batch, webhook, entry, received_at,
                                   reason)
    select b.id, row_number() over (), d.id, d.batch, d.webhook, d.entry, d.received_at, d.reason
    from begun b, dead_letters d where d.settled_at is null and d.kind = 'deliveries'";

/// Asks for what died in the last two seconds to be sent again. The request is put where consoles of the
/// version before put it.
async fn resend_for_ever(world: &World) {
    repeat(Duration::from_millis(300), async || {
        world.sql(
            "insert into resends (id, webhook, since, asked_at, asked_by, total)
             select gen_random_uuid(), id, now() - interval '2 seconds', now(), 'anna', 0
             from webhooks
             on conflict (webhook) where ended_at is null do nothing",
        );
    })
    .await;
}
