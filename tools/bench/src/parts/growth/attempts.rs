//! Many stored attempts: the time of a page of deliveries, and the throughput of the pipeline.

use std::time::Instant;

use anyhow::{Result, ensure};
use fanfare_store::deliveries::DeliveryFilter;
use fanfare_store::{PlanMode, Store};

use super::PART;
use crate::number;
use crate::parts::throughput::{load, world};
use crate::plan::{FanOut, Plan};
use crate::progress::say;
use crate::report::Report;
use crate::seed;
use crate::stage::Stage;
use crate::world::Load;

/// The number of webhooks that each stored event was delivered to.
const FAN_OUT: u64 = 10;

/// Attempts that are stored in one statement.
const CHUNK: u64 = 100_000;

/// Deliveries on a page.
const PAGE: i64 = 100;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = world(stage, FAN_OUT).await?;
    let store = world.store(PlanMode::Custom)?;
    let webhook = store.webhooks_list(None).await?.first().map(|webhook| webhook.id);
    let pages = [
        ("all deliveries", DeliveryFilter { limit: PAGE, ..Default::default() }),
        ("a webhook's deliveries", DeliveryFilter { limit: PAGE, webhook, ..Default::default() }),
    ];
    let mut stored = 0;
    for &wanted in &plan.growth_attempts {
        say(&format!("growth: {wanted} stored attempts"));
        while stored < wanted {
            let next = wanted.min(stored + CHUNK);
            seed::attempts(stage, &world.name, stored / FAN_OUT..next / FAN_OUT)?;
            stored = next;
        }
        seed::analyze(stage, &world.name)?;
        world.others = stored;
        for _ in 0..plan.rounds {
            for (name, filter) in &pages {
                let taken = page(&store, filter).await?;
                report.add(PART, &format!("{wanted} attempts: {name}"), "ms", taken);
            }
            let count = plan.growth_events.div_ceil(FAN_OUT);
            let fan_out = FanOut { webhooks: FAN_OUT, warm_up: 0, events: count };
            let load: Load<'_> = load(plan, &fan_out, count);
            let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
            let name = format!("{wanted} attempts: throughput at fan-out {FAN_OUT}");
            report.add(PART, &name, "deliveries/s", seen.rate());
        }
    }
    drop(store);
    world.check(stage).await?;
    world.close(stage).await
}

/// Milliseconds for the first page.
async fn page(store: &Store, filter: &DeliveryFilter) -> Result<f64> {
    let start = Instant::now();
    let page = store.deliveries_page(filter).await?.deliveries;
    let taken = start.elapsed().as_secs_f64() * 1e3;
    let found = number::count(page.len());
    ensure!(i64::try_from(found)? == PAGE, "the page has {found} deliveries");
    Ok(taken)
}
