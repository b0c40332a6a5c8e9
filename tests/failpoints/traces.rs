//! The steps of real processes are runs of the model, and no other order of them is.

use std::time::Duration;

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_model::Model;
use fanfare_model::trace::{self, Line, explain};
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;

use super::supervisor::Supervisor;
use super::verdict::Verdict;
use super::{PATHS, Played, ROUTER, WORKER, is_first_attempt, numbered, world};
use crate::world::{SOON, World, publish_on};

/// Long enough for the last acknowledgements.
const SETTLED: Duration = Duration::from_mins(1);

/// The events of the run in which nothing ends.
const EVENTS: usize = 20;

/// The most traces of a run with kills, in percent, that need not be explained.
pub(super) const FEW_UNEXPLAINED: usize = 10;

/// The deliveries of a run whose steps are swapped.
const SWAPPED: usize = 6;

/// The deliveries of the ledger, as traces name them.
fn deliveries(world: &World) -> Vec<(String, String)> {
    let rows = world.sql("select distinct batch, webhook from attempts");
    let parse = |row: &str| {
        let (batch, webhook) = row.split_once('|').unwrap();
        let (batch, webhook): (BatchKey, WebhookId) =
            (batch.parse().unwrap(), webhook.parse().unwrap());
        (batch.to_string(), webhook.to_string())
    };
    rows.lines().map(parse).collect()
}

/// Replays the trace of each delivery against the model. At most `most` percent are not explained.
///
/// Where processes end all the time, some deliveries have more orders of their steps than can be tried,
/// or a job that is split because it was redelivered again and again, which the model does not know.
pub(super) async fn are_runs_of_the_model(world: &World, supervisor: &Supervisor<'_>, most: usize) {
    let (ended, mut open, mut undecided) = (supervisor.ended(), deliveries(world), 0);
    let all = open.len();
    eventually("the traces are runs of the model", SETTLED, async || {
        let lines = trace::parse(&supervisor.trace()).unwrap();
        let mut refused = None;
        open.retain(|(batch, webhook)| {
            match explain(Model::default(), &lines, (batch, webhook), &ended) {
                Ok(()) => false,
                Err(unexplained) if unexplained.is_refused => {
                    refused = Some(unexplained);
                    true
                }
                Err(_) => {
                    undecided += 1;
                    false
                }
            }
        });
        if (open.len() + undecided) * 100 <= all * most {
            Ok(())
        } else {
            Err((open.len(), undecided, refused))
        }
    })
    .await;
    println!("of {all} traces, {} are refused and {undecided} undecided", open.len());
}

/// The lines with two steps of one task in the other order, for each two that follow each other in the
/// trace of a delivery. A step that a task did twice, for two copies of a job, is not swapped: the copies
/// may have any order.
fn swaps(lines: &[Line], (batch, webhook): (&str, &str)) -> Vec<(String, Vec<Line>)> {
    let is_of = |line: &Line| {
        let of = line.delivery.as_ref();
        of.is_some_and(|(b, w)| b == batch && w.as_ref().is_none_or(|w| w == webhook))
            && trace::ACTIONS.contains(&line.step.as_str())
    };
    let own: Vec<usize> = (0..lines.len()).filter(|at| is_of(&lines[*at])).collect();
    let mut swaps = Vec::new();
    for (at, one) in own.iter().enumerate() {
        let same_task = |other: &&usize| {
            let (one, other) = (&lines[*one], &lines[**other]);
            one.process == other.process && one.task == other.task
        };
        let Some(other) = own[at + 1..].iter().find(same_task) else { continue };
        let is_repeated = |step: &str| {
            own.iter().filter(|at| same_task(at) && lines[**at].step == step).count() > 1
        };
        if is_repeated(&lines[*one].step) || is_repeated(&lines[*other].step) {
            continue;
        }
        let mut swapped = lines.to_vec();
        swapped[*one].step.clone_from(&lines[*other].step);
        swapped[*other].step.clone_from(&lines[*one].step);
        swaps.push((format!("{} before {}", lines[*other].step, lines[*one].step), swapped));
    }
    swaps
}

/// Swaps two steps in the traces of some deliveries: none of these orders is a run of the model. Returns
/// how many were refused.
pub(super) fn are_no_runs_with_two_steps_swapped(
    world: &World,
    supervisor: &Supervisor<'_>,
) -> usize {
    let (ended, lines) = (supervisor.ended(), trace::parse(&supervisor.trace()).unwrap());
    let mut refused = 0;
    for (batch, webhook) in deliveries(world).into_iter().take(SWAPPED) {
        for (what, swapped) in swaps(&lines, (&batch, &webhook)) {
            let explained = explain(Model::default(), &swapped, (&batch, &webhook), &ended);
            assert!(explained.is_err(), "{what} is a run of the model");
            refused += 1;
        }
    }
    println!("{refused} traces with two steps swapped are refused");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_of_a_run_are_runs_of_the_model_and_no_other_order_of_their_steps_is() {
    let world = world().await.with("FANFARE_LOG", "info").with("FANFARE_RETRY_ATTEMPTS", "2");
    let receiver = Receiver::start().await;
    receiver
        .answer_with(|request, _| Reply::status(if is_first_attempt(request) { 500 } else { 200 }));
    for path in PATHS {
        world.webhook(&receiver.url(path)).await;
    }
    let supervisor = Supervisor::new(&world);
    let processes = vec![supervisor.supervise(ROUTER).await, supervisor.supervise(WORKER).await];
    for process in &processes {
        process.wait_for_line("connected to the broker", SOON).await;
    }
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    for number in 0..EVENTS {
        publish_on(&amqp, &numbered(number)).await;
    }
    let played = Played { receiver, supervisor, events: EVENTS, _processes: processes };
    Verdict::of_all_webhooks(&world, &played).await;
    are_runs_of_the_model(&world, &played.supervisor, 0).await;

    let refused = are_no_runs_with_two_steps_swapped(&world, &played.supervisor);
    assert!(refused >= SWAPPED * 6, "{refused}");
}
