//! Looks at every state that can be reached.

use std::collections::{HashMap, VecDeque};

use crate::action::Action;
use crate::protocol::Model;
use crate::state::{Outcome, State};

/// What must hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// A confirmed event ends, whatever happened before: from every state, steps without a further
    /// fault lead to the end of the delivery.
    Ends,
    /// A POST is made once more only if its row could not be written in time.
    OnePost,
    /// Nothing is sent that the access rule refused when it was asked.
    NoLeak,
    /// Nothing follows the last row of a delivery.
    OneSeries,
    /// While nothing has failed, at most one job carries the delivery.
    OneJob,
}

/// What is wrong, and how it comes about.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The promise that is broken.
    pub promise: Promise,
    /// The steps that lead there.
    pub steps: Vec<Action>,
    /// Where they lead.
    pub state: State,
}

/// What was looked at.
#[derive(Debug, Clone)]
pub struct Report {
    /// The number of states.
    pub states: usize,
    /// The first failure, by the fewest steps.
    pub failure: Option<Failure>,
}

/// Reaches every state from `start`, and checks the promises in each. The last promise, that the
/// delivery can always still end, is checked backwards from the states in which it has ended.
#[must_use]
pub fn check(model: Model, start: State) -> Report {
    let mut found: HashMap<State, usize> = HashMap::from([(start.clone(), 0)]);
    let mut states = vec![start];
    let mut from: Vec<Option<(usize, Action)>> = vec![None];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut next = 0;
    let steps = |from: &[Option<(usize, Action)>], mut at: usize| {
        let mut steps = Vec::new();
        while let Some((previous, action)) = from[at] {
            steps.push(action);
            at = previous;
        }
        steps.reverse();
        steps
    };
    while next < states.len() {
        let state = states[next].clone();
        if let Some(promise) = broken(&state) {
            let failure = Failure { promise, steps: steps(&from, next), state };
            return Report { states: states.len(), failure: Some(failure) };
        }
        for action in model.actions(&state) {
            let after = model.next(&state, action);
            let fault = after.happened > state.happened;
            let at = *found.entry(after.clone()).or_insert_with(|| {
                states.push(after);
                from.push(Some((next, action)));
                before.push(Vec::new());
                states.len() - 1
            });
            if !fault {
                before[at].push(next);
            }
        }
        next += 1;
    }
    let mut ends = vec![false; states.len()];
    let settled = (0..states.len()).filter(|at| states[*at].is_settled());
    let mut queue: VecDeque<usize> = settled.collect();
    for at in &queue {
        ends[*at] = true;
    }
    while let Some(at) = queue.pop_front() {
        for previous in before[at].clone() {
            if !ends[previous] {
                ends[previous] = true;
                queue.push_back(previous);
            }
        }
    }
    let stuck = ends.iter().position(|ends| !ends);
    let failure = stuck.map(|at| Failure {
        promise: Promise::Ends,
        steps: steps(&from, at),
        state: states[at].clone(),
    });
    Report { states: states.len(), failure }
}

fn broken(state: &State) -> Option<Promise> {
    if state.posts.iter().zip(state.excused).any(|(posts, excused)| *posts > 1 + excused) {
        return Some(Promise::OnePost);
    }
    if state.leaked {
        return Some(Promise::NoLeak);
    }
    let ended = |outcome: &Outcome| *outcome != Outcome::Retrying;
    let until_last = state.rows.len().saturating_sub(1);
    if state.rows[..until_last].iter().any(ended) {
        return Some(Promise::OneSeries);
    }
    if state.happened == 0 && state.jobs() > 1 {
        return Some(Promise::OneJob);
    }
    None
}
