//! A gateway fails under load: all webhooks of one host answer well at first and then go bad
//! together. The figures are the rate and the latency of the webhooks of another host, from that
//! moment on.
//!
//! All webhooks have the same owner. This is the hardest case, because shares by owner don't help.
//! The number of webhooks for an event is chosen so that two cores are enough before the failure
//! ([`Fan`]).

use anyhow::{Result, ensure};

use super::{BAD, GOOD, PART};
use crate::number;
use crate::parts::throughput::millis;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::sink::{Command, Manner};
use crate::stage::Stage;
use crate::world::{Hook, Load, World};

/// Webhooks of the healthy host.
const HEALTHY: u64 = 4;

/// The ways in which a gateway fails, in the order in which they are measured.
const MANNERS: [Manner; 4] = [Manner::Hang, Manner::Trickle, Manner::Slow, Manner::Reset];

/// The most deliveries a second of a case.
const MOST: u64 = 2000;

struct Case {
    manner: Manner,
    /// Webhooks of the gateway.
    bad: u64,
    /// Events a second.
    rate: f64,
    fan: Fan,
}

/// The number of webhooks for each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fan {
    /// The number of different actions of the events; each webhook has a filter for one or more.
    actions: u64,
    /// Healthy webhooks for an event: all of them or one.
    healthy: u64,
    /// Webhooks of the gateway for an event.
    bad: u64,
}

impl Fan {
    /// The largest possible numbers.
    fn of(bad: u64, rate: f64) -> Self {
        let room = MOST / number::whole(rate).max(1);
        if HEALTHY + bad <= room {
            return Self { actions: 1, healthy: HEALTHY, bad };
        }
        let healthy = if room > 2 * HEALTHY { HEALTHY } else { 1 };
        let least = bad.div_ceil(room.saturating_sub(healthy).max(1));
        // The number of actions must divide the number of webhooks, so that all events get the same
        // number.
        let actions = (least..bad).find(|actions| bad.is_multiple_of(*actions)).unwrap_or(bad);
        Self { actions, healthy, bad: bad / actions }
    }

    /// The filters of one of `count` webhooks, so that each event matches `wide` of them.
    fn filters(self, number: u64, count: u64, wide: u64) -> String {
        if self.actions == 1 || wide == count {
            return "tasks".to_owned();
        }
        let own = |action: &u64| action % count == number || *action == number % self.actions;
        let own = (0..self.actions).filter(own);
        own.map(|action| format!("tasks.a{action}")).collect::<Vec<_>>().join(" ")
    }
}

impl Case {
    fn name(&self) -> String {
        let Self { manner, bad, rate, .. } = self;
        format!("gateway of {bad}, {}, {rate} events/s", manner.name())
    }
}

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for case in cases(plan) {
        let name = case.name();
        if !plan.wants(&name) {
            continue;
        }
        let Fan { healthy, bad, .. } = case.fan;
        say(&format!("isolation: {name}; each goes to {healthy} healthy webhooks and {bad} of it"));
        for _ in 0..plan.rounds {
            round(stage, plan, report, &case).await?;
        }
    }
    Ok(())
}

fn cases(plan: &Plan) -> impl Iterator<Item = Case> + '_ {
    let manners = MANNERS.into_iter().take(plan.gateway_manners);
    manners.flat_map(move |manner| {
        plan.gateway_webhooks.iter().flat_map(move |&bad| {
            let case = move |&rate: &f64| Case { manner, bad, rate, fan: Fan::of(bad, rate) };
            plan.gateway_rates.iter().map(case)
        })
    })
}

async fn round(stage: &mut Stage, plan: &Plan, report: &mut Report, case: &Case) -> Result<()> {
    let name = case.name();
    let mut world = World::new(stage, &[]).await?;
    let filters = |count, wide| (0..count).map(move |it| case.fan.filters(it, count, wide));
    for (group, count, wide) in [(GOOD, HEALTHY, case.fan.healthy), (BAD, case.bad, case.fan.bad)] {
        let filters: Vec<String> = filters(count, wide).collect();
        let hook = |filter| Hook { manner: Manner::Gateway, group, filter };
        let hooks: Vec<_> = filters.iter().map(|filter| hook(filter)).collect();
        world.hooks(stage, &hooks).await?;
    }
    world.start(stage).await?;
    let [warm_up, before, after] = plan.gateway_seconds;
    world.deliver(stage, &load(plan, case, warm_up), plan.loss_timeout).await?;
    let before = world.deliver(stage, &load(plan, case, before), plan.loss_timeout).await?;
    let fail = Command::Fail { group: BAD.to_owned(), manner: case.manner };
    stage.sink.send(&fail).await?;
    let after = world.deliver(stage, &load(plan, case, after), plan.loss_timeout).await?;
    ensure!(after.duplicates() == 0, "{} deliveries arrived twice", after.duplicates());
    for (when, seen) in [("before", &before), ("after", &after)] {
        report.add(PART, &format!("{name}: healthy p50 {when}"), "ms", millis(seen.p50));
        report.add(PART, &format!("{name}: healthy p99 {when}"), "ms", millis(seen.p99));
    }
    let ratio = after.rate() / before.rate();
    report.add(PART, &format!("{name}: throughput after, of that before"), "", ratio);
    // The retries to the gateway end with the installation.
    world.close(stage).await
}

/// Events for this many seconds.
fn load(plan: &Plan, case: &Case, seconds: f64) -> Load<'static> {
    Load {
        filter: "tasks",
        actions: case.fan.actions,
        group: GOOD,
        fan_out: case.fan.healthy,
        count: number::whole(case.rate * seconds),
        rate: Some(case.rate),
        size: plan.data,
        in_flight: plan.in_flight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_matches_the_number_of_webhooks_of_its_fan() {
        for bad in [12, 50] {
            for rate in [20.0, 100.0, 1000.0] {
                let fan = Fan::of(bad, rate);
                let deliveries = number::whole(rate) * (fan.healthy + fan.bad);
                assert!(deliveries <= MOST, "{fan:?}");
                for (count, wide) in [(HEALTHY, fan.healthy), (bad, fan.bad)] {
                    let matches = |filters: &str, action: u64| {
                        filters == "tasks"
                            || filters.split(' ').any(|it| it == format!("tasks.a{action}"))
                    };
                    for action in 0..fan.actions {
                        let filters = (0..count).map(|number| fan.filters(number, count, wide));
                        let number = filters.filter(|filters| matches(filters, action)).count();
                        assert_eq!(number::count(number), wide, "{fan:?} {count} a{action}");
                    }
                }
            }
        }
    }
}
