//! Many webhooks, of which twenty match: the time of an event in the router's statement.

use anyhow::Result;
use fanfare_store::PlanMode;

use super::{MATCHING, PART, Routing};
use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::seed::{self, Webhooks};
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, World};

/// Why the other webhooks don't match. Usually, their owners may not read the resource. Otherwise
/// all of them, or every second one, belong to an owner who may, and have other filters. The last
/// case is the hardest, because the database's statistics about most owners are wrong for that one.
const OTHERS: [(&str, Webhooks<'static>); 3] = [
    ("others may not read", Webhooks { owner: "'user' || n % 10000", filters: "'{tasks}'" }),
    ("others of the same owner", Webhooks { owner: "'bench'", filters: "'{alerts}'" }),
    (
        "others of the same owner and of many",
        Webhooks {
            owner: "case when n % 2 = 0 then 'bench' else 'user' || n end",
            filters: "'{alerts}'",
        },
    ),
];

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for (why, others) in OTHERS {
        let mut world = World::new(stage, &[]).await?;
        let hook = Hook { manner: Manner::Good, group: PART, filter: "tasks" };
        world.hooks(stage, &[hook; MATCHING]).await?;
        let store = world.store(PlanMode::Generic)?;
        let (event_type, subject) = ("tasks.execute", "tasks/t1");
        let mut routing = Routing { store: &store, event_type, subject, next: 0 };
        let mut there = number::count(MATCHING);
        for &wanted in &plan.growth_webhooks {
            say(&format!("growth: {wanted} webhooks, {why}"));
            seed::webhooks(stage, &world.name, others, there..wanted)?;
            there = wanted;
            let name = format!("{wanted} webhooks, {why}");
            routing.measure(plan, report, &name).await?;
        }
        drop(store);
        world.close(stage).await?;
    }
    Ok(())
}
