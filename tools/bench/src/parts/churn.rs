//! Churn: a run in which a day is a minute, under a steady load. The ledger's partitions are of a minute, and
//! six minutes of facts are kept, so that what months do to tables and indexes is seen in an hour: after the
//! warm-up their sizes must be flat.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::sink::{Command, Manner};
use crate::stage::Stage;
use crate::world::{Hook, Load, World};

const PART: &str = "churn";
const GOOD: &str = "good";

/// Webhooks that get each event. One more fails from time to time, so that there are retries.
const FAN_OUT: u64 = 10;

/// Every which sample is taken while that webhook fails, and its delays: its deliveries settle before their
/// day goes.
const FAILS_EVERY: u64 = 6;
const DELAYS: [&str; 2] = ["2s", "20s"];

/// The days, here minutes, for which facts and payloads are kept.
const FACTS: &str = "6d";
const PAYLOADS: &str = "3d";

/// The time until as many days are dropped as are made: those of `FACTS`, the present one, and a round of
/// the router.
const WARM_UP: Duration = Duration::from_mins(8);

/// The time between two samples. There are several in each minute, so that means do not depend on when a
/// day is dropped.
const EVERY: Duration = Duration::from_secs(10);

/// How far the sizes at the end may be from those after the warm-up.
const FLAT: f64 = 0.10;

/// The kinds of tables and indexes that are sampled. Keys of events are in partitions of real weeks, which
/// are not scaled, so that they only grow here.
const KINDS: [&str; 5] = ["events", "attempts", "their indexes", "other tables", "keys of events"];

/// Makes the functions of retention count a minute as a day, in this database alone.
const SCALE: &str = include_str!("churn/scale.sql");

const SIZES: &str = include_str!("churn/sizes.sql");

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let [first, longest] = DELAYS;
    let settings = [
        ("FANFARE_KEEP_FACTS", FACTS),
        ("FANFARE_KEEP_PAYLOADS", PAYLOADS),
        ("FANFARE_RETRY_FIRST", first),
        ("FANFARE_RETRY_MAX_DELAY", longest),
    ];
    let mut world = World::new(stage, &settings).await?;
    stage.sql(&world.name, SCALE)?;
    let good = Hook { manner: Manner::Good, group: GOOD, filter: "tasks" };
    let bad = Hook { manner: Manner::Storm, group: "bad", filter: "tasks" };
    let mut hooks = vec![good; usize::try_from(FAN_OUT)?];
    hooks.push(bad);
    world.hooks(stage, &hooks).await?;
    world.start(stage).await?;
    world.start_more(stage, "console").await?;

    let begin = Instant::now();
    let mut samples = Vec::new();
    let mut round = 0;
    while begin.elapsed() < plan.churn {
        stage.sink.send(&Command::Storm(round % FAILS_EVERY == 1)).await?;
        round += 1;
        let count = number::whole(EVERY.as_secs_f64() * number::float(plan.churn_rate)).max(1);
        world.publish(&load(plan, count)).await?;
        let sample = sample(stage, &world)?;
        let total: f64 = sample.iter().sum();
        say(&format!("churn: {:.0} s, {total:.1} MiB {sample:.1?}", begin.elapsed().as_secs_f64()));
        if begin.elapsed() > WARM_UP || plan.is_smoke {
            samples.push(sample);
        }
    }
    world.wait(stage, GOOD, plan.loss_timeout).await?;
    let moved = judge(report, &samples)?;
    let dropped =
        "-- bench_dropped\nselect count(*) from ledger_partitions where parent = 'attempts'";
    let partitions: f64 = stage.sql(&world.name, dropped)?.trim().parse()?;
    report.add(PART, "partitions of attempts at the end", "partitions", partitions);
    world.close(stage).await?;
    ensure!(plan.is_smoke || moved <= FLAT, "the size moved by {moved:.3}, which is not flat");
    Ok(())
}

/// The sizes of the kinds, in MiB.
fn sample(stage: &Stage, world: &World) -> Result<Vec<f64>> {
    let text = stage.sql(&world.name, SIZES)?;
    let sizes = text.trim().split('|').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    ensure!(sizes.len() == KINDS.len(), "the sizes are {text}");
    Ok(sizes)
}

/// Compares the first third of the samples with the last one, by their means. Returns by how much the size
/// of all but the keys has moved.
fn judge(report: &mut Report, samples: &[Vec<f64>]) -> Result<f64> {
    let third = (samples.len() / 3).max(1);
    let first = samples.get(..third).context("the run was shorter than its warm-up")?;
    let last = samples.get(samples.len() - third..).context("no samples")?;
    let mean = |samples: &[Vec<f64>], kind: usize| {
        let sum: f64 = samples.iter().filter_map(|sample| sample.get(kind)).sum();
        sum / number::float(number::count(samples.len()))
    };
    let (mut before, mut after) = (0.0, 0.0);
    for (kind, name) in KINDS.into_iter().enumerate() {
        let (first, last) = (mean(first, kind), mean(last, kind));
        report.add(PART, &format!("{name}, after the warm-up"), "MiB", first);
        report.add(PART, &format!("{name}, at the end"), "MiB", last);
        if kind + 1 < KINDS.len() {
            (before, after) = (before + first, after + last);
        }
    }
    let moved = (after / before - 1.0).abs();
    report.add(PART, "all but keys, after the warm-up", "MiB", before);
    report.add(PART, "all but keys, at the end", "MiB", after);
    report.add(PART, "all but keys, moved by", "", moved);
    Ok(moved)
}

fn load(plan: &Plan, count: u64) -> Load<'static> {
    Load {
        filter: "tasks",
        actions: 1,
        group: GOOD,
        fan_out: FAN_OUT,
        count,
        rate: Some(number::float(plan.churn_rate)),
        size: plan.data,
        in_flight: plan.in_flight,
    }
}
