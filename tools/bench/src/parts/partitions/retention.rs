//! Dropping days: how long it takes, how long a writer waits for its locks, and what it does to the latency.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fanfare_store::retention::{Keep, Step};
use fanfare_store::{PlanMode, Store};

use super::{FILLED, PART, load};
use crate::console::quantile;
use crate::parts::ledger::Rows;
use crate::parts::throughput::millis;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::{Load, World};

const DAY: Duration = Duration::from_hours(24);

/// The pause between two drops under load. A router drops one a day.
const PAUSE: Duration = Duration::from_secs(20);

/// The time for which a writer is watched without a drop.
const CALM: Duration = Duration::from_secs(5);

/// Measures drops, without load and under load.
pub(super) async fn run(
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
    world: &mut World,
) -> Result<()> {
    say("partitions: dropping days");
    let mut writer = Writer::new(world)?;
    let calm = async {
        tokio::time::sleep(CALM).await;
        Ok(())
    };
    let ((), waits) = writer.beside(calm).await?;
    report.add(PART, "longest wait of a writer, no drop", "ms", quantile(&waits, 1.0));
    world.others += writer.written;
    for _ in 0..plan.rounds {
        dropped(report, world).await?;
    }
    latency(stage, plan, report, world).await?;
    undecided(stage, report, world).await
}

/// Drops the oldest day beside a writer.
async fn dropped(report: &mut Report, world: &mut World) -> Result<()> {
    drop_beside(report, world, "a drop").await.map(drop)
}

/// Drops a day whose dead letters are all undecided, so that they stay.
async fn undecided(stage: &Stage, report: &mut Report, world: &mut World) -> Result<()> {
    stage.sql(&world.name, "-- bench_undecided\ntruncate discards")?;
    let kept = drop_beside(report, world, "a drop, all dead letters undecided").await?;
    #[expect(clippy::cast_precision_loss, reason = "a day has fewer rows than 2^52")]
    report.add(PART, "a drop, all dead letters undecided: rows that stay", "rows", kept as f64);
    Ok(())
}

async fn drop_beside(report: &mut Report, world: &mut World, name: &str) -> Result<i64> {
    let store = world.store(PlanMode::Generic)?;
    let mut writer = Writer::new(world)?;
    let keep = oldest_goes(&store).await?;
    let ((kept, taken), waits) = writer
        .beside(async {
            let start = Instant::now();
            loop {
                match store.retention_step(keep).await? {
                    Step::Dropped { kept, .. } => {
                        return Ok((kept, start.elapsed().as_secs_f64() * 1e3));
                    }
                    // A router was at it, or the locks were not free.
                    Step::Busy => tokio::time::sleep(Duration::from_millis(200)).await,
                    other => anyhow::bail!("{other:?} instead of a drop"),
                }
            }
        })
        .await?;
    world.others += writer.written;
    report.add(PART, &format!("{name}: time"), "ms", taken);
    let longest = quantile(&waits, 1.0);
    report.add(PART, &format!("{name}: longest wait of a writer"), "ms", longest);
    Ok(kept)
}

/// Tries to drop a day that a reader has locked: it is refused, and how long do others wait?
pub(super) async fn refused(report: &mut Report, world: &mut World, plan: &Plan) -> Result<()> {
    let store = world.store(PlanMode::Generic)?;
    for _ in 0..plan.rounds {
        let mut writer = Writer::new(world)?;
        let keep = oldest_goes(&store).await?;
        let (step, waits) = writer.beside(async { Ok(store.retention_step(keep).await?) }).await?;
        ensure!(step == Step::Busy, "{step:?} beside a reader");
        world.others += writer.written;
        let longest = quantile(&waits, 1.0);
        report.add(PART, "a refused drop: longest wait of a writer", "ms", longest);
    }
    Ok(())
}

/// The latency under a steady load, without drops and with one every twenty seconds, in turn.
async fn latency(
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
    world: &mut World,
) -> Result<()> {
    let store = world.store(PlanMode::Generic)?;
    let count = plan.partitions_seconds * plan.partitions_rate;
    let rate = crate::number::float(plan.partitions_rate);
    let load = Load { rate: Some(rate), ..load(plan, FILLED, count) };
    for _ in 0..plan.rounds {
        let without = world.deliver(stage, &load, plan.loss_timeout).await?;
        let over = Cell::new(false);
        let drops = async {
            let mut number = 0_u32;
            while !over.get() {
                let keep = oldest_goes(&store).await?;
                let step = store.retention_step(keep).await?;
                number += u32::from(matches!(step, Step::Dropped { .. }));
                tokio::time::sleep(PAUSE).await;
            }
            anyhow::Ok(number)
        };
        let deliveries = async {
            let seen = world.deliver(stage, &load, plan.loss_timeout).await;
            over.set(true);
            seen
        };
        let (with, drops) = tokio::try_join!(deliveries, drops)?;
        ensure!(drops > 0, "no day was dropped");
        report.add(PART, "days dropped under load", "days", f64::from(drops));
        for (name, without, with) in
            [("p50", without.p50, with.p50), ("p99", without.p99, with.p99)]
        {
            let (without, with) = (millis(without), millis(with));
            report.add(PART, &format!("latency without drops, {name}"), "ms", without);
            report.add(PART, &format!("latency with drops, {name}"), "ms", with);
            report.add(PART, &format!("latency with drops to without, {name}"), "", with / without);
        }
    }
    Ok(())
}

/// What is kept so that the oldest day goes, and no other.
async fn oldest_goes(store: &Store) -> Result<Keep> {
    let all = store.partitions().await?;
    let of_events = all.iter().filter(|one| one.table == "events");
    let oldest = of_events.filter_map(|one| one.until).min();
    let age = oldest.map(|end| (chrono::Utc::now() - end).to_std().unwrap_or_default());
    let facts = age.unwrap_or_default().saturating_sub(Duration::from_secs(1));
    ensure!(facts > DAY, "there is no old day left to drop");
    Ok(Keep { facts: Some(facts), payloads: None, audit: None, recognition: None })
}

/// Writes row after row as a worker does, and notes how long each takes.
struct Writer {
    rows: Rows,
    written: u64,
}

impl Writer {
    fn new(world: &World) -> Result<Self> {
        Ok(Self { rows: Rows::new(world, 1)?, written: 0 })
    }

    /// Writes until `work` is done; returns its result, and the times of the writes in milliseconds.
    async fn beside<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<(T, Vec<f64>)> {
        self.rows.write(10).await?;
        self.written += 10;
        let over = Cell::new(false);
        let work = async {
            let done = work.await;
            over.set(true);
            done
        };
        let writes = async {
            let mut times = Vec::new();
            while !over.get() {
                let start = Instant::now();
                self.rows.write(1).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(times)
        };
        let (done, times) = tokio::try_join!(work, writes)?;
        self.written += crate::number::count(times.len());
        Ok((done, times))
    }
}
