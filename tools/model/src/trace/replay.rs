//! Replays the trace of one delivery against the model.
//!
//! A trace says when each step was done, and not when its durable action had its effect: the effect
//! came after the end of the task's step before it. So the steps of one task have an order, and two
//! steps of different tasks have one only if the first had ended before the second could begin.
//! The replay looks for an order that the model allows, among all that the times allow.
//!
//! Each task of a worker is a worker of the model, because a worker of the model has one job at a time.
//! Some things leave no line, and may happen at any time: a lease expires, the plan gets old, a process
//! that is known to have ended has done one action more, and the broker delivers again what such a
//! process held.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Line;
use super::steps::{actions, is_of, is_step};
use crate::action::Action;
use crate::environment;
use crate::protocol::Model;
use crate::state::{Body, Outcome, Process, State};

/// The most states that are looked at. A trace that is explained needs some hundreds.
const MAX_STATES: usize = 10_000;
/// The most tasks of a delivery that is replayed. With more, the orders are too many to be tried.
const MAX_TASKS: usize = 64;

/// The faults that a trace may have.
const FAULTS: u8 = u8::MAX;

/// A trace that the model does not allow, or in which no run of the model was found.
#[derive(Debug, Clone)]
pub struct Unexplained {
    /// Whether the model allows no run with these steps. Otherwise there were too many orders to try.
    pub is_refused: bool,
    /// The steps of each task that were explained, at most.
    pub explained: Vec<String>,
    /// The steps that could not follow.
    pub next: Vec<String>,
    /// A state in which they could not.
    pub state: State,
}

/// The steps of one task that concern the delivery.
#[derive(Debug)]
struct Task {
    process: u32,
    peer: Process,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    seq: u8,
    /// When the task's step before it had ended.
    begin: u128,
    end: u128,
}

/// How far the replay of a task is: the number of its steps that are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Step(usize),
    /// All steps are replayed, and an action that left no line.
    Untraced,
    /// Its process has ended.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    state: State,
    at: Vec<At>,
}

/// Whether the model allows what the lines say about a delivery that has ended. `ended` are the
/// processes that were killed.
///
/// # Errors
///
/// [`Unexplained`]: no run of the model has these steps.
pub fn explain(
    model: Model,
    lines: &[Line],
    (batch, webhook): (&str, &str),
    ended: &BTreeSet<u32>,
) -> Result<(), Box<Unexplained>> {
    let tasks = tasks(lines, batch, webhook);
    let routers = tasks.iter().filter(|task| matches!(task.peer, Process::Router(_))).count();
    let start = Node {
        state: State::confirmed(routers, tasks.len() - routers, FAULTS),
        at: vec![At::Step(0); tasks.len()],
    };
    let replay = Replay { model, tasks, ended };
    let mut seen = HashSet::from([start.clone()]);
    let is_too_large = replay.tasks.len() > MAX_TASKS;
    let mut open = if is_too_large { Vec::new() } else { vec![start.clone()] };
    let mut furthest = start;
    while let Some(node) = open.pop().filter(|_| seen.len() < MAX_STATES) {
        if replay.is_whole(&node) {
            return Ok(());
        }
        if replay.progress(&node) > replay.progress(&furthest) {
            furthest = node.clone();
        }
        for next in replay.successors(&node) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let is_refused = !is_too_large && seen.len() < MAX_STATES;
    Err(Box::new(replay.unexplained(&furthest, is_refused)))
}

/// A task's steps: a list for each copy of the delivery's job that it received at a time.
type Copies = Vec<Vec<Step>>;

/// The tasks that have to do with the delivery, each with its steps. A task that received several copies
/// of the delivery's job at a time counts as a task for each of them.
fn tasks(lines: &[Line], batch: &str, webhook: &str) -> Vec<Task> {
    let mut by_task: BTreeMap<(bool, u32, &str), Copies> = BTreeMap::new();
    for line in lines.iter().filter(|line| is_step(&line.step)) {
        let is_router = !line.step.starts_with("Worker");
        let key = (!is_router, line.process, if is_router { "" } else { line.task.as_str() });
        match &line.delivery {
            Some((of, to)) if of == batch && to.as_deref().is_none_or(|to| to == webhook) => {
                let copies = by_task.entry(key).or_default();
                let copy = copy_of(copies, line);
                copies.resize_with(copies.len().max(copy + 1), Vec::new);
                add(&mut copies[copy], line);
            }
            // A task that acknowledges nothing of the delivery says so about no delivery.
            None if line.step == "WorkerAcknowledges" => {
                by_task.get_mut(&key).into_iter().flatten().for_each(|steps| add(steps, line));
            }
            _ => {}
        }
    }
    let (mut routers, mut workers) = (0, 0);
    let task = |(is_worker, process, steps)| {
        let count: &mut u8 = if is_worker { &mut workers } else { &mut routers };
        let peer = if is_worker { Process::Worker(*count) } else { Process::Router(*count) };
        *count = count.saturating_add(1);
        Task { process, peer, steps }
    };
    let each = by_task.into_iter().flat_map(|((is_worker, process, _), copies)| {
        copies.into_iter().map(move |steps| (is_worker, process, steps))
    });
    each.map(task).collect()
}

/// The copy that a line is about. Copies are received in the same moment. The trace does not name them,
/// so a step is counted for the first copy that can be before it.
fn copy_of(copies: &Copies, line: &Line) -> usize {
    if line.step == "WorkerTakes" {
        let is_received_now = |step: &Step| step.name == line.step && step.end == line.at;
        let received_now = |copy: &&Vec<Step>| copy.last().is_some_and(is_received_now);
        return copies.iter().take_while(received_now).count();
    }
    // One of the copies gets the lease. The others are put off, and may publish that before its POST.
    let before: &[&str] = match line.step.as_str() {
        "WorkerBegins" => &["WorkerTakes"],
        "WorkerReads" => &["WorkerBegins"],
        "WorkerPublishes" => &["WorkerRecords", "WorkerPostpones", "WorkerBegins", "WorkerTakes"],
        _ => &[],
    };
    // What is acknowledged meanwhile may be other jobs of the task.
    let is_done = |step: &&Step| step.name != "WorkerAcknowledges";
    let is_after = |name: &&str| {
        let is_last =
            |copy: &Vec<Step>| copy.iter().rfind(is_done).is_some_and(|it| it.name == *name);
        copies.iter().position(is_last)
    };
    before.iter().find_map(is_after).unwrap_or(0)
}

fn add(steps: &mut Vec<Step>, line: &Line) {
    // What was asked again, because it waited or could not be answered with others.
    if steps.last().is_some_and(|last| last.name == line.step && line.step == "RouterTakes") {
        return;
    }
    // What was received has waited in the process, so it counts from when it was looked at.
    let is_first = steps.is_empty() || line.step.ends_with("Takes");
    let begin = if is_first { line.at } else { steps.last().map_or(line.at, |last| last.end) };
    let seq = u8::try_from(line.seq).unwrap_or(u8::MAX);
    steps.push(Step { name: line.step.clone(), seq, begin, end: line.at });
}

struct Replay<'a> {
    model: Model,
    tasks: Vec<Task>,
    ended: &'a BTreeSet<u32>,
}

impl Replay<'_> {
    /// Whether all steps are replayed, the delivery has ended, and no process still holds a message.
    fn is_whole(&self, node: &Node) -> bool {
        // A job that a slow attempt released may be acknowledged at any later step, also where the model
        // knows no acknowledgement.
        let released = |task: &Task| task.steps.iter().any(|step| step.name == "WorkerReleases");
        let holds = |task: &Task| node.state.held(task.peer).is_some() && !released(task);
        node.state.is_settled()
            && (0..self.tasks.len()).all(|task| self.is_over(node, task))
            && !self.tasks.iter().any(|task| !self.ended.contains(&task.process) && holds(task))
    }

    fn progress(&self, node: &Node) -> usize {
        let steps = |(task, at): (&Task, &At)| match at {
            At::Step(at) => *at,
            At::Untraced | At::Ended => task.steps.len(),
        };
        self.tasks.iter().zip(&node.at).map(steps).sum()
    }

    /// Whether all steps of a task are replayed.
    fn is_over(&self, node: &Node, task: usize) -> bool {
        match node.at[task] {
            At::Step(at) => at == self.tasks[task].steps.len(),
            At::Untraced | At::Ended => true,
        }
    }

    /// What may come next, the likeliest last: the steps in the order of their times, then what the steps
    /// need that leaves no line.
    fn successors(&self, node: &Node) -> Vec<Node> {
        let mut successors = Vec::new();
        self.silent(node, &mut successors);
        for task in 0..self.tasks.len() {
            self.ends(node, task, &mut successors);
            self.defers(node, task, &mut successors);
        }
        let end = |task: usize| match node.at[task] {
            At::Step(at) => self.tasks[task].steps.get(at).map(|step| step.end),
            At::Untraced | At::Ended => None,
        };
        let mut tasks: Vec<usize> = (0..self.tasks.len()).collect();
        tasks.sort_by_key(|task| Reverse(end(*task)));
        for task in tasks {
            self.traced(node, task, &mut successors);
        }
        successors
    }

    /// What the next step of a task leads to.
    fn traced(&self, node: &Node, task: usize, successors: &mut Vec<Node>) {
        let At::Step(at) = node.at[task] else { return };
        let Task { peer, steps, .. } = &self.tasks[task];
        let Some(step) = steps.get(at) else { return };
        if !self.may_come(node, step) {
            return;
        }
        let mut after = node.clone();
        after.at[task] = At::Step(at + 1);
        if step.name == "WorkerAcknowledges" {
            // It may have been for another job of the task.
            successors.push(after.clone());
        }
        let mut actions = actions(&step.name, step.seq, *peer);
        if !self.has_later_attempt(step.seq) {
            // The likeliest outcome of the last attempt is a success.
            actions.reverse();
        }
        for action in actions {
            if self.allows(&node.state, action) {
                let state = self.model.next(&node.state, action);
                successors.push(Node { state, ..after.clone() });
            }
        }
    }

    fn has_later_attempt(&self, seq: u8) -> bool {
        self.tasks.iter().flat_map(|task| &task.steps).any(|step| step.seq > seq)
    }

    /// A deferral before a task publishes. It leaves no line of its own.
    fn defers(&self, node: &Node, task: usize, successors: &mut Vec<Node>) {
        let (At::Step(at), Process::Worker(number)) = (node.at[task], self.tasks[task].peer) else {
            return;
        };
        let next = self.tasks[task].steps.get(at);
        let action = Action::WorkerDefers(number);
        if next.is_some_and(|step| step.name == "WorkerPublishes")
            && self.allows(&node.state, action)
        {
            let state = self.model.next(&node.state, action);
            successors.push(Node { state, at: node.at.clone() });
        }
    }

    /// Whether nothing that must come before a step is still to be replayed.
    fn may_come(&self, node: &Node, step: &Step) -> bool {
        let first = |(task, at): (&Task, &At)| match at {
            At::Step(at) => task.steps.get(*at).is_none_or(|other| other.end >= step.begin),
            At::Untraced | At::Ended => true,
        };
        self.tasks.iter().zip(&node.at).all(first)
    }

    /// Whether the model allows an action. A real worker takes a recheck at once, and its outcome waits;
    /// a worker of the model takes it later.
    fn allows(&self, state: &State, action: Action) -> bool {
        // A job whose workers end before they leave a trace counts as lost, and is published once more.
        if matches!(action, Action::Reconciles(_)) && !self.ended.is_empty() {
            return state.planned && matches!(state.rows.last(), None | Some(Outcome::Retrying));
        }
        if let Action::WorkerTakes(_, Body::Recheck) = action {
            let waits = |message: &crate::Message| {
                message.body == Body::Recheck && message.holder.is_none()
            };
            return state.messages.iter().any(waits);
        }
        self.model.actions(state).contains(&action)
    }

    /// The end of a task's process, and an action that it did just before.
    fn ends(&self, node: &Node, task: usize, successors: &mut Vec<Node>) {
        let Task { process, peer, .. } = self.tasks[task];
        if !self.ended.contains(&process) || !self.is_over(node, task) || node.at[task] == At::Ended
        {
            return;
        }
        if node.at[task] != At::Untraced {
            for action in self.model.actions(&node.state).into_iter().filter(|it| is_of(*it, peer))
            {
                let mut after = node.clone();
                after.at[task] = At::Untraced;
                after.state = self.model.next(&node.state, action);
                successors.push(after);
            }
        }
        let others = (0..self.tasks.len()).filter(|other| self.tasks[*other].process == process);
        if others.into_iter().all(|other| self.is_over(node, other)) {
            let mut after = node.clone();
            after.at[task] = At::Ended;
            after.state = self.model.next(&node.state, Action::Killed(peer));
            successors.push(after);
        }
    }

    /// What leaves no line.
    fn silent(&self, node: &Node, successors: &mut Vec<Node>) {
        let mut time = Vec::new();
        environment::time(&node.state, &mut time);
        for action in time.into_iter().filter(|it| is_unseen(*it)) {
            let state = self.model.next(&node.state, action);
            successors.push(Node { state, at: node.at.clone() });
        }
        if self.ended.is_empty() {
            return;
        }
        // A process that ended may have received a message, and not looked at it.
        for (at, message) in node.state.messages.iter().enumerate() {
            if message.holder.is_none() && !message.redelivered {
                let mut after = node.clone();
                after.state.messages[at].redelivered = true;
                after.state.messages.sort_unstable();
                successors.push(after);
            }
        }
    }

    fn unexplained(&self, node: &Node, is_refused: bool) -> Unexplained {
        let describe =
            |task: &Task, step: &Step| format!("{:?} {} {}", task.peer, step.name, step.seq);
        let (mut explained, mut next) = (Vec::new(), Vec::new());
        for (task, at) in self.tasks.iter().zip(&node.at) {
            let done = match at {
                At::Step(at) => *at,
                At::Untraced | At::Ended => task.steps.len(),
            };
            explained.extend(task.steps[..done].iter().map(|step| describe(task, step)));
            next.extend(task.steps.get(done).map(|step| describe(task, step)));
        }
        Unexplained { is_refused, explained, next, state: node.state.clone() }
    }
}

/// Whether time brings an action about, and no process writes it down.
fn is_unseen(action: Action) -> bool {
    matches!(action, Action::LeaseExpires | Action::HolderFoundDead | Action::PlanAges)
}
