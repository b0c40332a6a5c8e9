//! Isolation: ten endpoints get every event, and some of them are bad. The figures are the rate and
//! the latency of the good ones.
//!
//! Each case has its own installation, so that the retries of a case don't affect the next one.
//! [`gateway`] has the cases in which a whole host goes bad under load.

mod gateway;

use anyhow::Result;

use super::throughput::millis;
use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, Load, World, cpu};

const PART: &str = "isolation";
const ENDPOINTS: usize = 10;
const GOOD: &str = "healthy";
const BAD: &str = "bad";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for bad in cases(plan) {
        let name = name(&bad);
        if !plan.wants(&name) {
            continue;
        }
        say(&format!("isolation: {name}"));
        for _ in 0..plan.rounds {
            round(stage, plan, report, &name, &bad).await?;
        }
    }
    gateway::run(stage, plan, report).await
}

/// The bad endpoints of each case.
fn cases(plan: &Plan) -> Vec<Vec<Manner>> {
    let mut cases = vec![Vec::new()];
    if plan.isolation_bad.is_empty() {
        cases.push(Manner::BAD.to_vec());
    }
    for manner in Manner::BAD {
        cases.extend(plan.isolation_bad.iter().map(|bad| vec![manner; *bad]));
    }
    cases
}

fn name(bad: &[Manner]) -> String {
    match bad {
        [] => "none bad".to_owned(),
        [first, rest @ ..] if rest.iter().all(|it| it == first) => {
            format!("{} {}", bad.len(), first.name())
        }
        _ => "one of each kind".to_owned(),
    }
}

async fn round(
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
    name: &str,
    bad: &[Manner],
) -> Result<()> {
    let mut world = World::new(stage, &[]).await?;
    let good = ENDPOINTS.saturating_sub(bad.len());
    let healthy = Hook { manner: Manner::Good, group: GOOD, filter: "tasks" };
    world.hooks(stage, &vec![healthy; good]).await?;
    let hook = |manner: &Manner| Hook { manner: *manner, group: BAD, filter: "tasks" };
    world.hooks(stage, &bad.iter().map(hook).collect::<Vec<_>>()).await?;
    world.start(stage).await?;
    let load = Load {
        filter: "tasks",
        actions: 1,
        group: GOOD,
        fan_out: number::count(good),
        count: number::whole(plan.isolation_rate * number::float(plan.isolation_seconds)),
        rate: Some(plan.isolation_rate),
        size: plan.data,
        in_flight: plan.in_flight,
    };
    let before = cpu(stage, &world)?;
    let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
    let after = cpu(stage, &world)?;
    anyhow::ensure!(seen.duplicates() == 0, "{} deliveries arrived twice", seen.duplicates());
    let each = seen.rate() / number::float(number::count(good));
    report.add(PART, &format!("{name}: a healthy endpoint gets"), "deliveries/s", each);
    report.add(PART, &format!("{name}: healthy p99"), "ms", millis(seen.p99));
    for ((who, after), (_, before)) in after.into_iter().zip(before) {
        let used = (after - before) / number::float(plan.isolation_seconds);
        report.add(PART, &format!("{name}: CPU of the {who}"), "cores", used);
    }
    // The retries to bad endpoints would go on for days. They end with the installation.
    world.close(stage).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Size;

    #[test]
    fn each_bad_manner_is_a_case() {
        let names = |size| cases(&Plan::of(size)).iter().map(|bad| name(bad)).collect::<Vec<_>>();
        assert_eq!(names(Size::Smoke), ["none bad", "one of each kind"]);
        let whole = names(Size::Whole { full: false });
        assert_eq!(whole.len(), 1 + 2 * Manner::BAD.len());
        assert_eq!(whole[..3], ["none bad", "1 hang", "5 hang"]);
    }
}
