//! Processes that a failpoint ends again and again, and that are started again at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::process::Process;
use fanfare_testkit::wait::eventually;

use crate::world::{SOON, World, unique};

/// How often each failpoint ends a process, if the environment does not say otherwise.
pub(super) const KILLS: usize = 15;

/// The variable with another number, for all failpoints.
const KILLS_VARIABLE: &str = "FAILPOINT_KILLS";

/// How likely a process ends at most steps that it reaches, in percent.
pub(super) const LIKELY: u8 = 30;

/// The longest time until a process reaches one of its failpoints.
const REACHED: Duration = Duration::from_mins(4);

/// What the process says when a failpoint ends it.
const ENDED: &str = "ends the process";

/// Some processes of one role, and the failpoints that end them.
#[derive(Clone, Copy)]
pub(super) struct Crew {
    pub(super) role: &'static str,
    pub(super) processes: usize,
    pub(super) steps: &'static [Step],
    /// How often each failpoint ends a process.
    pub(super) kills: usize,
    /// How likely a process ends at a step that it reaches, in percent.
    pub(super) percent: u8,
    /// Whether each step ends enough processes before the next one ends any.
    pub(super) in_turn: bool,
}

/// Starts processes, and counts their ends.
pub(super) struct Supervisor<'a> {
    world: &'a World,
    /// The file to which all processes append their steps.
    trace: PathBuf,
    /// How often each failpoint ends a process, if the environment says so.
    wanted: Option<usize>,
    ends: Mutex<Ends>,
}

/// How often each failpoint ended a process, and which processes ended.
#[derive(Default)]
struct Ends {
    by_failpoint: BTreeMap<&'static str, usize>,
    processes: BTreeSet<u32>,
}

impl<'a> Supervisor<'a> {
    /// A supervisor of the processes of this world.
    pub(super) fn new(world: &'a World) -> Self {
        let wanted = std::env::var_os(KILLS_VARIABLE);
        Self {
            world,
            trace: std::env::temp_dir().join(format!("fanfare-steps-{}", unique())),
            wanted: wanted.and_then(|text| text.to_str()?.parse().ok()),
            ends: Mutex::default(),
        }
    }

    /// Keeps one process of a crew running until each of the crew's failpoints has ended enough
    /// processes. Returns one that no failpoint ends.
    pub(super) async fn supervise(&self, crew: Crew) -> Process {
        let (role, percent) = (crew.role, crew.percent);
        loop {
            let open = self.open(crew);
            let armed: Vec<String> =
                open.iter().map(|name| format!("{name}={percent}%return")).collect();
            let mut process = self.start(role, &armed.join(";"));
            if open.is_empty() {
                return process;
            }
            let what = format!("{} end a {role}", open.join(" or "));
            eventually(&what, REACHED, async || {
                let still = self.open(crew);
                !process.is_running() || !open.iter().any(|name| still.contains(name))
            })
            .await;
            if process.is_running() {
                process.kill9();
            } else {
                let line = process.wait_for_line(ENDED, SOON).await;
                let name = open.iter().find(|name| line.contains(&format!(" {name} ")));
                *self.hold().by_failpoint.entry(name.unwrap()).or_default() += 1;
            }
            self.hold().processes.insert(process.id());
        }
    }

    fn start(&self, role: &str, failpoints: &str) -> Process {
        let trace = self.trace.to_str().unwrap();
        let envs = [("FAILPOINTS", failpoints), ("FANFARE_TRACE_STEPS", trace)];
        self.world.spawn_with_envs(role, &envs)
    }

    /// The failpoints of a crew that have not ended enough processes. Of those that end them in turn,
    /// the first.
    fn open(&self, Crew { steps, kills, in_turn, .. }: Crew) -> Vec<&'static str> {
        let (ends, goal) = (self.hold(), self.wanted.unwrap_or(kills));
        let ended = |name| ends.by_failpoint.get(name).copied().unwrap_or_default();
        let open = steps.iter().map(|step| step.name()).filter(|name| ended(*name) < goal);
        open.take(if in_turn { 1 } else { steps.len() }).collect()
    }

    /// How often each failpoint ended a process.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.hold().by_failpoint.clone()
    }

    /// The processes that ended.
    pub(super) fn ended(&self) -> BTreeSet<u32> {
        self.hold().processes.clone()
    }

    /// The steps of all processes so far.
    pub(super) fn trace(&self) -> String {
        std::fs::read_to_string(&self.trace).unwrap()
    }

    fn hold(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.trace);
    }
}
