//! What can happen, and what it changes.

use crate::action::Action;
use crate::bug::Bug;
use crate::environment;
use crate::state::{
    Body, FollowUp, Lease, Message, Outcome, Process, Routing, State, Working, index, is_first,
};

/// The protocol, with one mistake or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Model {
    /// The mistake.
    pub bug: Bug,
}

impl Model {
    /// All that can happen next.
    #[must_use]
    pub fn actions(self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for number in 0..state.routers.len() {
            self.of_router(state, index(number), &mut actions);
        }
        for number in 0..state.workers.len() {
            self.of_worker(state, index(number), &mut actions);
        }
        environment::time(state, &mut actions);
        environment::faults(state, &mut actions);
        actions
    }

    fn of_router(self, state: &State, router: u8, actions: &mut Vec<Action>) {
        if !state.runs(Process::Router(router)) {
            return;
        }
        match state.routers[usize::from(router)] {
            Routing::Idle => {
                if ready(state, Body::Event).is_some() {
                    actions.push(Action::RouterTakes(router));
                }
                if self.bug != Bug::NoReconciler && is_lost(state) {
                    actions.push(Action::Reconciles(router));
                }
            }
            Routing::Taken => actions.push(Action::RouterPlans(router)),
            Routing::Planned(_) => actions.push(Action::RouterPublishes(router)),
            Routing::Published => actions.push(Action::RouterAcknowledges(router)),
        }
    }

    fn of_worker(self, state: &State, worker: u8, actions: &mut Vec<Action>) {
        if !state.runs(Process::Worker(worker)) {
            return;
        }
        match state.workers[usize::from(worker)] {
            Working::Idle => {
                let mut bodies: Vec<Body> = state
                    .messages
                    .iter()
                    .filter(|message| message.holder.is_none() && message.body != Body::Event)
                    .map(|message| message.body)
                    .filter(|body| *body != Body::Recheck || self.recheck_is_due(state, worker))
                    .collect();
                bodies.dedup();
                let take = |body| Action::WorkerTakes(worker, body);
                actions.extend(bodies.into_iter().map(take));
            }
            Working::Taken(body) => {
                actions.push(Action::WorkerBegins(worker));
                if by_reference(state, worker, body)
                    .is_some_and(|seq| state.rows.len() < usize::from(seq))
                {
                    actions.push(Action::WorkerDefers(worker));
                }
            }
            Working::Leased(_) => actions.push(Action::WorkerReads(worker)),
            Working::Sending { seq, slow, .. } => {
                actions.extend([true, false].map(|well| Action::WorkerSends(worker, well)));
                let lasts = seq == state.last && self.bug != Bug::LastIsReleased;
                // The POST of a slow attempt is under way.
                if !slow {
                    actions.push(Action::WorkerDefers(worker));
                }
                if !slow && !lasts {
                    actions.push(Action::WorkerReleases(worker));
                }
                if slow && state.held(Process::Worker(worker)).is_some() {
                    actions.push(Action::WorkerAcknowledges(worker));
                }
            }
            Working::Answered { .. } => actions.push(Action::WorkerRecords(worker)),
            Working::Recorded(_) => actions.push(Action::WorkerPublishes(worker)),
            Working::Published => actions.push(Action::WorkerAcknowledges(worker)),
        }
    }

    /// Whether the outcome of the first attempt must be known: no job for it is before the recheck, and
    /// each worker that lives says that it is not in the middle of one. A worker that was cut off for
    /// too long counts as dead.
    fn recheck_is_due(self, state: &State, worker: u8) -> bool {
        if self.bug == Bug::RecheckOvertakes {
            return true;
        }
        let lives = |other: &u8| {
            *other != worker
                && state.runs(Process::Worker(*other))
                && !state.cut_off.contains(other)
        };
        let has_one = |other: u8| is_first(state.workers[usize::from(other)]);
        ready(state, Body::Inline).is_none()
            && (self.bug == Bug::RecheckWithoutAnswers
                || !(0..index(state.workers.len())).filter(lives).any(has_one))
    }

    /// The state after an action.
    #[must_use]
    pub fn next(self, state: &State, action: Action) -> State {
        let mut next = state.clone();
        match action {
            Action::RouterTakes(router) => self.router_takes(&mut next, router),
            Action::RouterPlans(router) => {
                let what = plans(&mut next, router);
                next.routers[usize::from(router)] = Routing::Planned(what);
            }
            Action::RouterPublishes(router) => routes(&mut next, router),
            Action::RouterAcknowledges(router) => {
                next.acknowledge(Process::Router(router));
                next.routers[usize::from(router)] = Routing::Idle;
            }
            Action::Reconciles(_) => next.publish(owed(state), false),
            Action::WorkerTakes(worker, body) => self.takes(&mut next, worker, body),
            Action::WorkerBegins(worker) => self.begins(&mut next, worker),
            Action::WorkerReads(worker) => self.reads(&mut next, worker),
            Action::WorkerDefers(worker) => self.defers(&mut next, worker),
            Action::WorkerSends(worker, well) => self.sends(&mut next, worker, well),
            Action::WorkerReleases(worker) => releases(&mut next, worker),
            Action::WorkerRecords(worker) => self.records(&mut next, worker),
            Action::WorkerPublishes(worker) => self.publishes(&mut next, worker),
            Action::WorkerAcknowledges(worker) => {
                next.acknowledge(Process::Worker(worker));
                next.cut_off.retain(|other| *other != worker);
                if next.workers[usize::from(worker)] == Working::Published {
                    next.workers[usize::from(worker)] = Working::Idle;
                }
            }
            Action::Revoked => next.revoked = true,
            Action::LeaseExpires | Action::HolderFoundDead => {
                next.lease = next.lease.map(|lease| Lease { live: false, ..lease });
            }
            Action::PlanAges => next.plan_is_old = true,
            Action::Continues(process) => environment::continues(&mut next, process),
            Action::SessionExpires(process) => next.requeue(process),
            Action::Killed(process) => environment::kill(&mut next, process),
            Action::Stopped(process) => environment::stop(&mut next, process),
            Action::SessionLost(process) => {
                environment::lose_session(&mut next, process);
                if let Process::Worker(worker) = process {
                    secures(&mut next, worker);
                }
                if self.bug == Bug::LeaseVoidWithoutGrace {
                    environment::orphan(&mut next, process);
                }
            }
            Action::CutOff(process) => environment::cut_off(&mut next, process),
            Action::Wiped => environment::wipe(&mut next),
            Action::PublishRefused(worker) => environment::refuse(&mut next, worker),
        }
        next
    }

    fn router_takes(self, next: &mut State, router: u8) {
        take(next, Process::Router(router), Body::Event);
        next.routers[usize::from(router)] = Routing::Taken;
        if self.bug == Bug::EventAckBeforePlan {
            next.acknowledge(Process::Router(router));
        }
    }

    fn takes(self, next: &mut State, worker: u8, body: Body) {
        take(next, Process::Worker(worker), body);
        next.in_doubt.retain(|other| *other != worker);
        next.workers[usize::from(worker)] = Working::Taken(body);
        if self.bug == Bug::AckBeforeRecord {
            next.acknowledge(Process::Worker(worker));
        }
    }

    fn begins(self, next: &mut State, worker: u8) {
        let Working::Taken(body) = next.workers[usize::from(worker)] else { return };
        let redelivered =
            next.held(Process::Worker(worker)).is_none_or(|at| next.messages[at].redelivered)
                && self.bug != Bug::AckBeforeRecord;
        let doubt = redelivered || next.in_doubt.contains(&worker);
        // A job that waited for too long is decided as one by reference is.
        let waited = body == Body::Inline && !doubt && next.plan_is_old;
        let body = if waited { Body::Attempt(1) } else { body };
        let step = match body {
            Body::Event => Working::Published,
            Body::Inline if !doubt => {
                Working::Sending { seq: 1, leased: false, allowed: true, slow: false }
            }
            Body::Inline | Body::Recheck if next.rows.is_empty() => {
                Working::Recorded(self.again(Body::Attempt(1), true))
            }
            Body::Inline | Body::Recheck => Working::Recorded(next.follow_up(1)),
            // It is past. Its follow-up may be missing only if its worker did not acknowledge it.
            Body::Attempt(seq) if next.rows.len() >= usize::from(seq) => {
                let missing = if redelivered { next.follow_up(seq) } else { FollowUp::None };
                Working::Recorded(missing)
            }
            Body::Attempt(seq) if self.bug == Bug::RetryWithoutLease => Working::Leased(seq),
            Body::Attempt(seq) => match next.lease {
                // Held elsewhere: the job comes back when the lease must be over.
                Some(lease) if lease.live && lease.seq == seq => {
                    Working::Recorded(self.again(body, redelivered))
                }
                _ => {
                    next.lease = Some(Lease::new(seq, worker));
                    Working::Leased(seq)
                }
            },
        };
        next.workers[usize::from(worker)] = step;
    }

    /// The job that takes the place of one that is put off.
    fn again(self, body: Body, in_doubt: bool) -> FollowUp {
        if in_doubt && self.bug != Bug::DeferralForgetsDoubt {
            FollowUp::InDoubt(body)
        } else {
            FollowUp::Job(body)
        }
    }

    fn reads(self, next: &mut State, worker: u8) {
        let Working::Leased(seq) = next.workers[usize::from(worker)] else { return };
        next.workers[usize::from(worker)] = if next.rows.len() >= usize::from(seq) {
            Working::Recorded(next.follow_up(seq))
        } else if next.revoked && self.bug != Bug::RetryByPlan {
            Working::Answered { seq, outcome: Outcome::Dropped }
        } else {
            Working::Sending { seq, leased: true, allowed: !next.revoked, slow: false }
        };
    }

    fn defers(self, next: &mut State, worker: u8) {
        match next.workers[usize::from(worker)] {
            Working::Taken(body) => {
                if let Some(seq) = by_reference(next, worker, body) {
                    self.put_off(next, worker, seq, false);
                }
            }
            Working::Sending { seq, leased, .. } => self.put_off(next, worker, seq, leased),
            _ => {}
        }
    }

    /// Ends an attempt that is not begun: its lease is released, and a job takes the place of its job.
    fn put_off(self, next: &mut State, worker: u8, seq: u8, leased: bool) {
        let own = |lease: &Lease| lease.by == worker && lease.seq == seq;
        if leased && next.lease.as_ref().is_some_and(own) {
            next.lease = None;
        }
        let held = next.held(Process::Worker(worker)).map(|at| next.messages[at]);
        let keeps = held.is_some_and(|message| message.redelivered);
        next.workers[usize::from(worker)] =
            Working::Recorded(self.again(Body::Attempt(seq), keeps));
    }

    fn sends(self, next: &mut State, worker: u8, well: bool) {
        let Working::Sending { seq, leased, allowed, .. } = next.workers[usize::from(worker)]
        else {
            return;
        };
        // What waited for too long may be another's by now: it is put off.
        if next.in_doubt.contains(&worker) && self.bug != Bug::LateSend {
            return self.put_off(next, worker, seq, leased);
        }
        next.posts[usize::from(seq) - 1] += 1;
        next.leaked |= !allowed;
        let outcome = if well {
            Outcome::Delivered
        } else if seq < next.last {
            Outcome::Retrying
        } else {
            Outcome::Dead
        };
        if self.bug == Bug::LeaseGivenBack {
            next.lease = None;
        }
        if self.bug == Bug::RecordAfterAck {
            next.acknowledge(Process::Worker(worker));
        }
        next.workers[usize::from(worker)] = Working::Answered { seq, outcome };
    }

    /// Commits the row, unless there is one. What follows is what follows from the row that is there.
    fn records(self, next: &mut State, worker: u8) {
        let Working::Answered { seq, outcome } = next.workers[usize::from(worker)] else { return };
        if next.rows.len() + 1 == usize::from(seq) {
            next.rows.push(outcome);
        }
        next.workers[usize::from(worker)] = Working::Recorded(next.follow_up(seq));
        if self.bug == Bug::AckBeforeFollowUp {
            next.acknowledge(Process::Worker(worker));
        }
    }

    /// Publishes what follows from the row.
    fn publishes(self, next: &mut State, worker: u8) {
        let times = if self.bug == Bug::FollowUpTwice { 2 } else { 1 };
        for _ in 0..times {
            match next.workers[usize::from(worker)] {
                Working::Recorded(FollowUp::Job(body)) => next.publish(body, false),
                Working::Recorded(FollowUp::InDoubt(body)) => next.publish(body, true),
                Working::Recorded(FollowUp::DeadLetter) => next.dead_letter = true,
                _ => {}
            }
        }
        next.workers[usize::from(worker)] = Working::Published;
    }
}

/// Commits the plan. One that was there may be without its job.
fn plans(next: &mut State, router: u8) -> FollowUp {
    if !next.planned {
        next.planned = true;
        return FollowUp::Job(Body::Inline);
    }
    let redelivered =
        next.held(Process::Router(router)).is_none_or(|at| next.messages[at].redelivered);
    if redelivered && next.rows.is_empty() { FollowUp::Job(Body::Recheck) } else { FollowUp::None }
}

/// Publishes the job of the plan, if it may be without one.
fn routes(next: &mut State, router: u8) {
    if let Routing::Planned(FollowUp::Job(body)) = next.routers[usize::from(router)] {
        next.publish(body, false);
    }
    next.routers[usize::from(router)] = Routing::Published;
}

/// The row that a job by reference is about. An inline job that waited for too long is decided as one.
fn by_reference(state: &State, worker: u8, body: Body) -> Option<u8> {
    let is_in_doubt = || {
        let held = state.held(Process::Worker(worker));
        held.is_none_or(|at| state.messages[at].redelivered) || state.in_doubt.contains(&worker)
    };
    match body {
        Body::Attempt(seq) => Some(seq),
        Body::Inline if state.plan_is_old && !is_in_doubt() => Some(1),
        Body::Inline | Body::Recheck | Body::Event => None,
    }
}

fn ready(state: &State, body: Body) -> Option<usize> {
    state.messages.iter().position(|message| message.holder.is_none() && message.body == body)
}

fn take(next: &mut State, by: Process, body: Body) {
    if let Some(at) = ready(next, body) {
        next.messages[at] = Message { holder: Some(by), ..next.messages[at] };
        next.messages.sort_unstable();
    }
}

/// The job that the ledger says is needed.
fn owed(state: &State) -> Body {
    Body::Attempt(index(state.rows.len()) + 1)
}

/// Whether the delivery is owed, and its queue has passed its job for longer than a worker that runs
/// needs.
fn is_lost(state: &State) -> bool {
    let owes = match state.rows.last() {
        None => state.planned,
        Some(outcome) => *outcome == Outcome::Retrying,
    };
    let carried = state.messages.iter().any(|message| match message.holder {
        None => message.body != Body::Event,
        Some(Process::Worker(worker)) => state.runs(Process::Worker(worker)),
        Some(Process::Router(_)) => false,
    });
    let worked = (0..state.workers.len()).any(|worker| {
        state.runs(Process::Worker(index(worker))) && state.workers[worker] != Working::Idle
    });
    owes && state.plan_is_old && !carried && !worked
}

fn releases(next: &mut State, worker: u8) {
    let Working::Sending { seq, leased, allowed, .. } = next.workers[usize::from(worker)] else {
        return;
    };
    let free = next.lease.is_none_or(|lease| !lease.live || lease.seq != seq);
    if leased || (free && next.rows.len() < usize::from(seq)) {
        if !leased {
            next.lease = Some(Lease::new(seq, worker));
        }
        next.workers[usize::from(worker)] =
            Working::Sending { seq, leased: true, allowed, slow: true };
    }
}

/// A worker that lost its session takes a lease on the attempt that it has under way.
fn secures(next: &mut State, worker: u8) {
    let (Working::Answered { seq, .. } | Working::Sending { seq, leased: false, .. }) =
        next.workers[usize::from(worker)]
    else {
        return;
    };
    if next.lease.is_none_or(|lease| !lease.live || lease.seq != seq)
        && next.rows.len() < usize::from(seq)
    {
        next.lease = Some(Lease::new(seq, worker));
        if let Working::Sending { leased, .. } = &mut next.workers[usize::from(worker)] {
            *leased = true;
        }
    }
}
