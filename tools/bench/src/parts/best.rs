//! The upper bound of the pipeline: the three limits at the same time. For each delivery, Fanfare
//! must at least make a POST as the bare client does, commit a row, and receive a durable message.
//! This part does these three independently of each other, and nothing else.

use std::time::Instant;

use anyhow::Result;

use super::broker::Messages;
use super::ledger::Rows;
use super::limit::BareClient;
use crate::number;
use crate::plan::Plan;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::World;

const PART: &str = "best";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for (name, fan_out) in plan.by_fan_out() {
        let world = World::new(stage, &[]).await?;
        let mut rows = Rows::new(&world, fan_out.webhooks)?;
        let mut messages = Messages::start(stage, plan)?;
        let mut client = BareClient::start(stage)?;
        for round in 0..=plan.rounds {
            let alone = client.rate(stage, plan).await?;
            let count = if round == 0 { plan.limit_posts / 10 } else { plan.limit_posts };
            let start = Instant::now();
            tokio::try_join!(
                client.posts(stage, plan, count),
                rows.write(count),
                messages.pass(count.div_ceil(fan_out.webhooks)),
            )?;
            if round == 0 {
                continue;
            }
            let rate = number::float(count) / start.elapsed().as_secs_f64();
            report.add(PART, &name, "deliveries/s", rate);
            report.add(PART, &format!("{name}: of the bare client"), "", rate / alone);
        }
        client.end().await;
        messages.end(stage).await?;
        drop(rows);
        world.close(stage).await?;
    }
    Ok(())
}
