//! What happens to processes: time passes, and faults.

use crate::action::Action;
use crate::state::{FollowUp, Process, Routing, State, Working, index, is_first};

/// What time brings about. A process that runs is quick; one that is stopped is not.
pub(crate) fn time(state: &State, actions: &mut Vec<Action>) {
    if state.planned && !state.revoked {
        actions.push(Action::Revoked);
    }
    if let Some(lease) = state.lease
        && lease.live
        && !(state.runs(Process::Worker(lease.by))
            && uses(state.workers[usize::from(lease.by)], lease.seq))
    {
        actions.push(Action::LeaseExpires);
    }
    if state.lease.is_some_and(|lease| lease.live && lease.orphan) {
        actions.push(Action::HolderFoundDead);
    }
    if state.planned && !state.plan_is_old && half_a_minute_may_pass(state) {
        actions.push(Action::PlanAges);
    }
    for process in &state.stopped {
        actions.push(Action::Continues(*process));
        if state.held(*process).is_some() {
            actions.push(Action::SessionExpires(*process));
        }
    }
}

/// Whether no process that runs is between two steps that together take less than half a minute.
fn half_a_minute_may_pass(state: &State) -> bool {
    let routers = (0..state.routers.len()).all(|router| {
        !state.runs(Process::Router(index(router))) || state.routers[router] == Routing::Idle
    });
    let workers = (0..state.workers.len()).all(|worker| {
        !state.runs(Process::Worker(index(worker))) || !is_first(state.workers[worker])
    });
    routers && workers
}

/// Whether a worker is between its lease and the row.
fn uses(working: Working, seq: u8) -> bool {
    match working {
        Working::Leased(used)
        | Working::Sending { seq: used, .. }
        | Working::Answered { seq: used, .. } => used == seq,
        _ => false,
    }
}

/// The faults that may happen next.
pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    if state.faults == 0 {
        return;
    }
    let routers = (0..state.routers.len()).map(|router| Process::Router(index(router)));
    let workers = (0..state.workers.len()).map(|worker| Process::Worker(index(worker)));
    for process in routers.chain(workers) {
        let idle = match process {
            Process::Router(router) => state.routers[usize::from(router)] == Routing::Idle,
            Process::Worker(worker) => state.workers[usize::from(worker)] == Working::Idle,
        };
        if idle {
            continue;
        }
        actions.push(Action::Killed(process));
        if state.runs(process) {
            actions.push(Action::Stopped(process));
            actions.push(Action::SessionLost(process));
            actions.push(Action::CutOff(process));
        }
    }
    if state.planned && !state.messages.is_empty() {
        actions.push(Action::Wiped);
    }
    for worker in 0..state.workers.len() {
        if matches!(
            state.workers[worker],
            Working::Recorded(FollowUp::Job(_) | FollowUp::InDoubt(_))
        ) {
            actions.push(Action::PublishRefused(index(worker)));
        }
    }
}

/// SIGCONT: what a process does after a stop is in doubt.
pub(crate) fn continues(next: &mut State, process: Process) {
    next.stopped.retain(|other| *other != process);
    doubt(next, process);
}

/// SIGKILL, and a new process.
pub(crate) fn kill(next: &mut State, process: Process) {
    fault(next);
    excuse(next, process);
    next.requeue(process);
    orphan(next, process);
    next.stopped.retain(|other| *other != process);
    match process {
        Process::Router(router) => next.routers[usize::from(router)] = Routing::Idle,
        Process::Worker(worker) => {
            next.workers[usize::from(worker)] = Working::Idle;
            next.cut_off.retain(|other| *other != worker);
        }
    }
}

/// SIGSTOP.
pub(crate) fn stop(next: &mut State, process: Process) {
    fault(next);
    excuse(next, process);
    next.stopped.push(process);
    next.stopped.sort_unstable();
}

/// The broker ends the session of a process that runs.
pub(crate) fn lose_session(next: &mut State, process: Process) {
    fault(next);
    next.requeue(process);
    doubt(next, process);
}

/// A process loses its sessions with the broker and the database.
pub(crate) fn cut_off(next: &mut State, process: Process) {
    lose_session(next, process);
    excuse(next, process);
    orphan(next, process);
    if let Process::Worker(worker) = process
        && !next.cut_off.contains(&worker)
    {
        next.cut_off.push(worker);
        next.cut_off.sort_unstable();
    }
}

/// The broker loses all messages.
pub(crate) fn wipe(next: &mut State) {
    fault(next);
    next.messages.clear();
    next.wiped = true;
}

/// A queue refuses what a worker publishes.
pub(crate) fn refuse(next: &mut State, worker: u8) {
    fault(next);
    next.workers[usize::from(worker)] = Working::Published;
}

/// A POST whose row this process can't write in time may be made once more.
fn excuse(next: &mut State, process: Process) {
    let Process::Worker(worker) = process else { return };
    if let Working::Answered { seq, .. } | Working::Sending { seq, leased: true, .. } =
        next.workers[usize::from(worker)]
    {
        next.excused[usize::from(seq) - 1] += 1;
    }
}

/// The database session of a process has ended.
pub(crate) fn orphan(next: &mut State, process: Process) {
    if let Some(lease) = &mut next.lease
        && process == Process::Worker(lease.by)
    {
        lease.orphan = true;
    }
}

fn fault(next: &mut State) {
    next.faults -= 1;
    next.happened += 1;
}

fn doubt(next: &mut State, process: Process) {
    if let Process::Worker(worker) = process
        && !next.in_doubt.contains(&worker)
        && next.workers[usize::from(worker)] != Working::Idle
    {
        next.in_doubt.push(worker);
        next.in_doubt.sort_unstable();
    }
}
