//! Many dead letters: all deliveries to some endpoints die. The figures are the times of the pages and
//! lists of dead letters, and the rates at which operations replay them when the endpoints are well
//! again: those of one webhook, and then all others by canary. The part checks at the end that each
//! delivery arrived once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fanfare_store::PlanMode;
use tokio::time::sleep;

use crate::console::Console;
use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::sink::{Command, Manner};
use crate::stage::Stage;
use crate::world::{Hook, Load, World};

const PART: &str = "letters";
const GROUP: &str = "letters";
const DEADLINE: &str = "FANFARE_DELIVERY_DEADLINE";
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    // The first failure makes a dead letter. An endpoint at which all fails gets few attempts: the other
    // deliveries wait, and die when the deadline is over.
    let settings = [("FANFARE_RETRY_ATTEMPTS", "1"), (DEADLINE, "1m")];
    let mut world = World::new(stage, &settings).await?;
    let hook = Hook { manner: Manner::Reject, group: GROUP, filter: "alerts" };
    world.hooks(stage, &vec![hook; usize::try_from(plan.letters_webhooks)?]).await?;
    world.start(stage).await?;
    stage.sink.send(&Command::Storm(true)).await?;
    let all = plan.letters_webhooks * plan.letters_each;
    let begin = Instant::now();
    world.publish(&load(plan)).await?;
    letters(stage, &world, plan, all).await?;
    let rate = number::float(all) / begin.elapsed().as_secs_f64();
    report.add(PART, "deliveries that die", "deliveries/s", rate);

    world.restart(stage, DEADLINE, "1h").await?;
    let console = Console::open(stage, &mut world).await?;
    let webhooks = world.store(PlanMode::Custom)?.webhooks_list(None).await?;
    let webhook = webhooks.first().context("there is no webhook")?.id.to_string();
    for (name, path) in paths(&webhook) {
        console.measure(report, (PART, name), &path, plan.partitions_calls).await?;
    }

    stage.sink.send(&Command::Storm(false)).await?;
    stage.sink.send(&Command::Mark).await?;
    let begin = Instant::now();
    world.fanfare(stage, &["dead-letters", "replay", "--webhook", &webhook]).await?;
    letters(stage, &world, plan, all - plan.letters_each).await?;
    let rate = number::float(plan.letters_each) / begin.elapsed().as_secs_f64();
    report.add(PART, "replay of one webhook", "letters/s", rate);

    let begin = Instant::now();
    world.fanfare(stage, &["dead-letters", "replay", "--all", "--canary"]).await?;
    world.wait(stage, GROUP, plan.loss_timeout).await?;
    let rate = number::float(all - plan.letters_each) / begin.elapsed().as_secs_f64();
    report.add(PART, "replay of all others by canary", "letters/s", rate);
    letters(stage, &world, plan, 0).await?;
    world.check(stage).await?;
    world.close(stage).await
}

fn load(plan: &Plan) -> Load<'static> {
    Load {
        filter: "alerts",
        actions: 1,
        group: GROUP,
        fan_out: plan.letters_webhooks,
        count: plan.letters_each,
        rate: None,
        size: plan.data,
        in_flight: plan.in_flight,
    }
}

/// Pages and lists, each with the name of its figure.
fn paths(webhook: &str) -> Vec<(&'static str, String)> {
    let (pages, api) = ("/dead-letters", "/api/v1/dead-letters");
    vec![
        ("page: groups by cause, and the newest letters", pages.to_owned()),
        ("page: groups by webhook", format!("{pages}?by=webhook")),
        ("page: groups by host", format!("{pages}?by=host")),
        ("page: one webhook", format!("{pages}?webhook={webhook}")),
        ("list", api.to_owned()),
        ("list of a webhook", format!("{api}?webhook={webhook}")),
        ("groups by reason", format!("{api}/groups?by=reason")),
        ("groups by webhook", format!("{api}/groups?by=webhook")),
        ("page: dry run of a replay of all", "/operations/new?kind=replay".to_owned()),
    ]
}

/// Waits until this number of dead letters is not settled. Fails if it does not change for long.
async fn letters(stage: &Stage, world: &World, plan: &Plan, wanted: u64) -> Result<()> {
    const OPEN: &str = "-- bench_letters
        select count(*) from dead_letters where settled_at is null";
    let (mut last, mut since) = (u64::MAX, Instant::now());
    loop {
        let open: u64 = stage.sql(&world.name, OPEN)?.trim().parse()?;
        if open == wanted {
            return Ok(());
        }
        if open != last {
            say(&format!("letters: {open} dead letters of {wanted}"));
            (last, since) = (open, Instant::now());
        }
        ensure!(since.elapsed() < plan.loss_timeout, "{open} dead letters instead of {wanted}");
        sleep(POLL).await;
    }
}
