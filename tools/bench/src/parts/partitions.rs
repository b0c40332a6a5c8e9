//! Years of use: a ledger of many attempts in sixty daily partitions. The figures are the times of the
//! console's pages and of the API's lists, the throughput and the latency beside an empty ledger, and what
//! retention costs the others; all of it again beside a reader that holds a snapshot.

mod fill;
mod pages;
mod retention;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use fanfare_store::health::Counted;
use fanfare_store::reconcile::Passed;
use fanfare_store::{PlanMode, Store};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::plan::Plan;
use crate::progress::say;
use crate::report::{Report, median};
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, Load, World};
use pages::Pages;

const PART: &str = "partitions";

/// The groups of the two installations.
const EMPTY: &str = "empty";
const FILLED: &str = "filled";

/// The webhooks that get each event of the throughput.
const FAN_OUT: u64 = 10;

/// Events that one pass of a router's reconciler checks.
const CHECKED: i64 = 200;

/// The age of attempts from which on a console counts them.
const SETTLED: Duration = Duration::from_secs(75);

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut filled = World::new(stage, &[]).await?;
    fill::run(stage, plan, report, &filled).await?;
    let store = filled.store(PlanMode::Custom)?;
    count(&store, report).await?;
    reconcile(stage, plan, report, &filled).await?;

    let mut empty = World::new(stage, &[]).await?;
    for (world, group) in [(&mut empty, EMPTY), (&mut filled, FILLED)] {
        let hook = Hook { manner: Manner::Good, group, filter: "tasks" };
        world.hooks(stage, &vec![hook; usize::try_from(FAN_OUT)?]).await?;
        world.start(stage).await?;
    }
    filled.checked_since = stage.sql(&filled.name, "-- bench_now\nselect now()")?;
    let pages = Pages::open(stage, plan, &mut filled, &store).await?;
    let mut both = Both { empty, filled };

    if plan.wants("pages") {
        pages.measure(plan, report, "").await?;
    }
    if plan.wants("throughput") {
        both.throughput(stage, plan, report, "").await?;
    }
    if plan.wants("reader") {
        let reader = read(stage, &both.filled, plan.partitions_reader);
        pages.measure(plan, report, "beside a reader: ").await?;
        both.throughput(stage, plan, report, "beside a reader: ").await?;
        retention::refused(report, &mut both.filled, plan).await?;
        say("waiting for the end of the reader");
        reader.await.context("waiting for the reader")??;
    }
    if plan.wants("retention") {
        retention::run(stage, plan, report, &mut both.filled).await?;
    }

    drop((store, pages));
    both.empty.check(stage).await?;
    both.filled.check(stage).await?;
    both.empty.close(stage).await?;
    both.filled.close(stage).await
}

/// Counts the stored attempts for statistics, as consoles do after an upgrade.
async fn count(store: &Store, report: &mut Report) -> Result<()> {
    say("partitions: counting for statistics");
    let (begin, mut steps) = (Instant::now(), Vec::new());
    loop {
        let step = Instant::now();
        let counted = store.statistics_count(SETTLED).await?;
        steps.push(step.elapsed().as_secs_f64() * 1e3);
        if counted == Counted::All {
            break;
        }
    }
    let longest = steps.iter().copied().fold(0.0, f64::max);
    report.add(PART, "counting stored attempts: step of an hour, median", "ms", median(&steps));
    report.add(PART, "counting stored attempts: longest step", "ms", longest);
    let all = begin.elapsed().as_secs_f64();
    report.add(PART, "counting stored attempts: a month", "s", all);
    Ok(())
}

/// Measures passes of the reconciler over events that are found to be settled, before a router runs.
async fn reconcile(stage: &Stage, plan: &Plan, report: &mut Report, world: &World) -> Result<()> {
    let unsettled = CHECKED * i64::try_from(plan.rounds)?;
    let (newest, oldest) = (plan.partitions_days / 3, plan.partitions_days / 3 * 2);
    let open = format!(
        "-- bench_unsettled
        update events set look_at = now() - interval '1 hour', queued_at = now() - interval '1 hour'
        where (batch, received_at) in (select batch, received_at from events
                                       where received_at < now() - interval '{newest} days'
                                         and received_at > now() - interval '{oldest} days'
                                       order by batch limit {unsettled})"
    );
    stage.sql(&world.name, &open)?;
    // A router's connection.
    let store = world.store(PlanMode::Generic)?;
    let passed = Passed { deliveries: Some(Utc::now()), retries: Some(Utc::now()) };
    for (name, passes) in [("that settles 200 events", plan.rounds), ("without work", plan.rounds)]
    {
        for _ in 0..passes {
            let start = Instant::now();
            let found = store.reconcile(CHECKED, passed).await?.context("nobody else passes")?;
            let taken = start.elapsed().as_secs_f64() * 1e3;
            ensure!(found.settled == found.checked, "events are owed that were delivered");
            report.add(PART, &format!("a pass of the reconciler {name}"), "ms", taken);
        }
    }
    Ok(())
}

/// The two installations, which are measured in turn.
struct Both {
    empty: World,
    filled: World,
}

impl Both {
    async fn throughput(
        &mut self,
        stage: &mut Stage,
        plan: &Plan,
        report: &mut Report,
        when: &str,
    ) -> Result<()> {
        // The first events load pages from the disk, and make statements known.
        self.deliver(stage, plan, EMPTY, plan.growth_events / FAN_OUT / 10 + 1).await?;
        self.deliver(stage, plan, FILLED, plan.growth_events / FAN_OUT / 10 + 1).await?;
        let count = plan.growth_events.div_ceil(FAN_OUT);
        for _ in 0..plan.rounds {
            let empty = self.deliver(stage, plan, EMPTY, count).await?;
            let filled = self.deliver(stage, plan, FILLED, count).await?;
            report.add(PART, &format!("{when}throughput, empty"), "deliveries/s", empty);
            report.add(PART, &format!("{when}throughput, filled"), "deliveries/s", filled);
            report.add(PART, &format!("{when}throughput, filled to empty"), "", filled / empty);
        }
        Ok(())
    }

    /// Deliveries a second.
    async fn deliver(
        &mut self,
        stage: &mut Stage,
        plan: &Plan,
        group: &'static str,
        count: u64,
    ) -> Result<f64> {
        let world = if group == EMPTY { &mut self.empty } else { &mut self.filled };
        Ok(world.deliver(stage, &load(plan, group, count), plan.loss_timeout).await?.rate())
    }
}

fn load(plan: &Plan, group: &'static str, count: u64) -> Load<'static> {
    Load {
        filter: "tasks",
        actions: 1,
        group,
        fan_out: FAN_OUT,
        count,
        rate: None,
        size: plan.data,
        in_flight: plan.in_flight,
    }
}

/// Begins to read in another session, which then holds its snapshot, and the locks of all partitions.
fn read(stage: &Stage, world: &World, time: Duration) -> JoinHandle<Result<String>> {
    let seconds = time.as_secs_f64();
    say(&format!("partitions: a reader holds its snapshot for {seconds} s"));
    let (endpoints, database) = (stage.servers.endpoints().clone(), world.name.clone());
    let statement = format!(
        "-- bench_reader
        begin isolation level repeatable read, read only;
        select count(*) from attempts where received_at > now() - interval '1 minute';
        select pg_sleep({seconds});
        commit"
    );
    spawn_blocking(move || endpoints.sql(&database, &statement))
}
