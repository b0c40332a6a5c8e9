//! The steps of the code that are actions of the model.

use crate::action::Action;
use crate::state::{Body, Process};

/// The model's actions of processes. Each is a step of the code with the same name.
pub const ACTIONS: [&str; 13] = [
    "RouterTakes",
    "RouterPlans",
    "RouterPublishes",
    "RouterAcknowledges",
    "Reconciles",
    "WorkerTakes",
    "WorkerBegins",
    "WorkerReads",
    "WorkerSends",
    "WorkerReleases",
    "WorkerRecords",
    "WorkerPublishes",
    "WorkerAcknowledges",
];

/// Whether a step is an action of the model, and not finer than that.
pub(super) fn is_step(step: &str) -> bool {
    ACTIONS.contains(&step) || step == "WorkerPostpones"
}

/// The actions that a step may have been.
pub(super) fn actions(step: &str, seq: u8, peer: Process) -> Vec<Action> {
    let (Process::Router(number) | Process::Worker(number)) = peer;
    match step {
        "RouterTakes" => vec![Action::RouterTakes(number)],
        "RouterPlans" => vec![Action::RouterPlans(number)],
        "RouterPublishes" => vec![Action::RouterPublishes(number)],
        "RouterAcknowledges" => vec![Action::RouterAcknowledges(number)],
        "Reconciles" => vec![Action::Reconciles(number)],
        "WorkerTakes" if seq == 1 => {
            let bodies = [Body::Inline, Body::Recheck, Body::Attempt(1)];
            bodies.map(|body| Action::WorkerTakes(number, body)).to_vec()
        }
        "WorkerTakes" => vec![Action::WorkerTakes(number, Body::Attempt(seq))],
        "WorkerBegins" => vec![Action::WorkerBegins(number)],
        "WorkerReads" => vec![Action::WorkerReads(number)],
        // The trace does not say how the receiver answered.
        "WorkerSends" => [true, false].map(|well| Action::WorkerSends(number, well)).to_vec(),
        "WorkerPostpones" => vec![Action::WorkerDefers(number)],
        "WorkerReleases" => vec![Action::WorkerReleases(number)],
        "WorkerRecords" => vec![Action::WorkerRecords(number)],
        "WorkerPublishes" => vec![Action::WorkerPublishes(number)],
        "WorkerAcknowledges" => vec![Action::WorkerAcknowledges(number)],
        _ => Vec::new(),
    }
}

/// Whether an action is a peer's own.
pub(super) fn is_of(action: Action, peer: Process) -> bool {
    match (action, peer) {
        (
            Action::RouterTakes(number)
            | Action::RouterPlans(number)
            | Action::RouterPublishes(number)
            | Action::RouterAcknowledges(number)
            | Action::Reconciles(number),
            Process::Router(peer),
        )
        | (
            Action::WorkerTakes(number, _)
            | Action::WorkerBegins(number)
            | Action::WorkerReads(number)
            | Action::WorkerDefers(number)
            | Action::WorkerSends(number, _)
            | Action::WorkerReleases(number)
            | Action::WorkerRecords(number)
            | Action::WorkerPublishes(number)
            | Action::WorkerAcknowledges(number),
            Process::Worker(peer),
        ) => number == peer,
        _ => false,
    }
}
