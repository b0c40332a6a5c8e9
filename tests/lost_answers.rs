//! Each statement of routers and workers once loses its answer, once gets it late, and once does
//! not reach the database. Every published event still arrives, none twice, and none at an owner
//! who may not read it.
//!
//! The statements are not listed here: faults hit those that pass the proxy while the traffic runs,
//! so that a new statement is covered as soon as the traffic uses it.

mod sweep;
mod traffic;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fanfare_testkit::wait::pass;

use fanfare_testkit::pgproxy::PgProxy;
use fanfare_testkit::process::Process;
use futures_util::future::join_all;

use crate::world::{SOON, World};

use sweep::{Hit, Sweep};
use traffic::{Traffic, Wrong};

/// The time in which every expected event must arrive.
const ARRIVES: Duration = Duration::from_secs(90);

/// The time in which the traffic runs without faults, so that its statements are known.
const UNBROKEN: Duration = Duration::from_secs(5);

/// The time for all faults.
const FAULTS: Duration = Duration::from_mins(2);

/// The longest time for the faults that must hit a statement.
const LONGEST: Duration = Duration::from_mins(4);

/// Statements that the traffic must use. Remove a statement from this list only when the code no
/// longer has it: one that the traffic does not use is not tested.
const OF_ROUTER: [&str; 6] =
    ["route", "directory_put", "directory_state", "reconcile", "claims_sweep", "clock"];
const OF_WORKER: [&str; 8] = [
    "attempts_record",
    "attempts_claim",
    "attempts_last",
    "planned_events",
    "may_read",
    "user_status",
    "webhooks_get",
    "address_pause",
];

/// The time between two short-lived processes of a role.
const RESTART_EVERY: Duration = Duration::from_secs(2);

/// The number of faults that a failure message names.
const MOST_SUSPECTS: usize = 20;

/// Two processes of a role behind one proxy.
struct Role {
    name: &'static str,
    proxy: PgProxy,
    url: String,
    processes: [Process; 2],
}

impl Role {
    async fn start(world: &World, name: &'static str) -> Self {
        let (proxy, url) = world.proxied_database(name);
        let spawn = || spawn(world, name, &url);
        let processes = [spawn(), spawn()];
        for process in &processes {
            process.wait_for_line("connected to the broker", SOON).await;
        }
        Self { name, proxy, url, processes }
    }

    /// Starts a process and stops it in order, again and again, so that the statements of a start
    /// are sent often.
    async fn restart_repeatedly(&self, world: &World) {
        loop {
            pass(RESTART_EVERY).await;
            let mut process = spawn(world, self.name, &self.url);
            process.wait_for_line("connected to the broker", SOON).await;
            // The process begins to work after this line.
            pass(RESTART_EVERY).await;
            process.terminate();
            process.wait_exit(SOON).await;
        }
    }
}

/// The statements that a role must be seen to use.
fn expected(role: &str) -> &'static [&'static str] {
    if role == "router" { &OF_ROUTER } else { &OF_WORKER }
}

fn spawn(world: &World, role: &str, url: &str) -> Process {
    let envs = [("FANFARE_DATABASE_URL", url), ("FANFARE_LOG", "warn,fanfare=info")];
    world.spawn_with_envs(role, &envs)
}

#[tokio::test]
async fn lost_answers_of_every_statement_lose_no_delivery() {
    let world = World::new().await;
    let traffic = Traffic::new(&world).await;
    let mut roles = [Role::start(&world, "router").await, Role::start(&world, "worker").await];
    let sweeps: Vec<Sweep<'_>> =
        roles.iter().map(|role| Sweep::new(role.name, &role.proxy, expected(role.name))).collect();

    let began = Instant::now();
    let faults = async {
        pass(UNBROKEN).await;
        for sweep in &sweeps {
            sweep.has_seen().await;
        }
        let each = roles.iter().zip(&sweeps).map(async |(role, sweep)| {
            tokio::select! {
                () = sweep.run() => {}
                () = role.restart_repeatedly(&world) => {}
            }
        });
        let mut all = std::pin::pin!(join_all(each));
        let mut ended = tokio::time::timeout(FAULTS, &mut all).await.is_ok();
        let is_missing = || sweeps.iter().any(|sweep| !sweep.never().is_empty());
        while !ended && is_missing() && began.elapsed() < LONGEST {
            ended = tokio::time::timeout(RESTART_EVERY, &mut all).await.is_ok();
        }
        if !ended {
            // Some statements are sent only after another fault.
            let open: Vec<String> = sweeps.iter().flat_map(Sweep::open).collect();
            println!("these faults did not hit anything within {FAULTS:?}: {}", open.join(", "));
        }
        for (role, sweep) in roles.iter().zip(&sweeps) {
            role.proxy.clear();
            let never = sweep.never();
            assert!(never.is_empty(), "these faults never hit anything: {never:#?}");
        }
    };
    // The traffic continues: lost jobs have to be found while there is other work.
    let work = async {
        faults.await;
        traffic.is_light_load_from_now();
        traffic.arrives(&world, ARRIVES).await;
    };
    traffic.run_during(&world, work).await;
    let hits: Vec<Hit> = sweeps.iter().flat_map(Sweep::hits).collect();
    drop(sweeps);
    let list: Vec<&str> = hits.iter().map(|hit| hit.what.as_str()).collect();
    println!("{} faults within {:?}: {}", list.len(), began.elapsed(), list.join(", "));

    for role in &mut roles {
        for process in &mut role.processes {
            assert!(process.is_running(), "a {} ended", role.name);
        }
    }
    let calm = hits.iter().map(|hit| hit.at).max().unwrap_or(began);
    let wrong = traffic.wrong(ARRIVES, calm);
    let what: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert!(
        what.is_empty(),
        "{}\n\n{}",
        what.join("\n"),
        suspects(&hits, &wrong, &traffic.published())
    );
}

/// The faults that hit while wrong events may have been in progress, those with the largest share
/// of wrong events first.
fn suspects(hits: &[Hit], wrong: &[Wrong], all: &[Instant]) -> String {
    let is_near = |hit: &Hit, published: Instant, after: Duration| {
        hit.at + Duration::from_secs(1) > published && hit.at < published + after
    };
    // A reconciler runs every ten seconds; everything else is faster.
    let after = |event: &Wrong| Duration::from_secs(if event.is_lost_job() { 11 } else { 3 });
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for hit in hits {
        let (near, of) = counts.entry(&hit.what).or_default();
        *near += wrong.iter().filter(|it| is_near(hit, it.published, after(it))).count();
        *of += all.iter().filter(|at| is_near(hit, **at, Duration::from_secs(3))).count();
    }
    let mut counts: Vec<(&str, (usize, usize))> =
        counts.into_iter().filter(|(_, (near, _))| *near > 0).collect();
    counts.sort_by_key(|(_, (near, of))| std::cmp::Reverse(near * 1000 / (of + 1)));
    let line = |(what, (near, of)): &(&str, (usize, usize))| {
        format!("{what}: {near} wrong events, {of} events around it")
    };
    let lines: Vec<String> = counts.iter().take(MOST_SUSPECTS).map(line).collect();
    format!("Faults while these events were in progress:\n{}", lines.join("\n"))
}
