//! Traces that the model allows, and such that it does not.

use std::collections::BTreeSet;

use super::{Line, explain, parse};
use crate::Model;

/// Lines of a delivery: process, task, step, sequence number. What a task received twice in a row, it
/// received in one moment.
fn trace(steps: &[(u32, &str, &str, u8)]) -> Vec<Line> {
    let line = |(index, (process, task, step, seq)): (usize, &(u32, &str, &str, u8))| {
        let is_same = index > 0 && *step == "WorkerTakes" && steps[index] == steps[index - 1];
        let at = if is_same { index - 1 } else { index };
        let delivery = match *step {
            "WorkerAcknowledges" => "- -",
            _ if step.starts_with("Router") => "b -",
            _ => "b w",
        };
        format!("{at} {process} {task} {step} {delivery} {seq}\n")
    };
    let text: String = steps.iter().enumerate().map(line).collect();
    parse(&text).unwrap()
}

fn is_explained(steps: &[(u32, &str, &str, u8)], ended: &[u32]) -> bool {
    let ended: BTreeSet<u32> = ended.iter().copied().collect();
    explain(Model::default(), &trace(steps), ("b", "w"), &ended).is_ok()
}

const ROUTED: [(u32, &str, &str, u8); 4] = [
    (1, "1", "RouterTakes", 0),
    (1, "1", "RouterPlans", 0),
    (1, "1", "RouterPublishes", 0),
    (1, "1", "RouterAcknowledges", 0),
];

const DELIVERED: [(u32, &str, &str, u8); 6] = [
    (2, "5", "WorkerTakes", 1),
    (2, "5", "WorkerBegins", 1),
    (2, "5", "WorkerSends", 1),
    (2, "5", "WorkerRecords", 1),
    (2, "5", "WorkerPublishes", 1),
    (2, "5", "WorkerAcknowledges", 0),
];

#[test]
fn a_delivery_without_trouble_is_explained() {
    assert!(is_explained(&[&ROUTED[..], &DELIVERED].concat(), &[]));
    // The worker was quicker than the confirm of its job.
    assert!(is_explained(&[&ROUTED[..2], &DELIVERED, &ROUTED[2..]].concat(), &[]));
}

#[test]
fn two_steps_in_the_wrong_order_are_refused() {
    let whole = [&ROUTED[..], &DELIVERED].concat();
    for at in (0..whole.len() - 1).filter(|at| whole[*at].0 == whole[at + 1].0) {
        let mut swapped = whole.clone();
        (swapped[at].2, swapped[at + 1].2) = (swapped[at + 1].2, swapped[at].2);
        assert!(!is_explained(&swapped, &[]), "{} before {}", swapped[at].2, swapped[at + 1].2);
    }
}

#[test]
fn a_missing_step_is_refused() {
    let whole = [&ROUTED[..], &DELIVERED].concat();
    for at in 0..whole.len() {
        let mut missing = whole.clone();
        let (.., step, _) = missing.remove(at);
        assert!(!is_explained(&missing, &[]), "without {step}");
    }
}

#[test]
fn what_a_process_did_not_record_before_it_ended_is_sent_again() {
    let again = [
        (3, "7", "WorkerTakes", 1),
        (3, "7", "WorkerBegins", 1),
        (3, "7", "WorkerPublishes", 1),
        (3, "7", "WorkerAcknowledges", 0),
        (3, "8", "WorkerTakes", 1),
        (3, "8", "WorkerBegins", 1),
        (3, "8", "WorkerReads", 1),
        (3, "8", "WorkerSends", 1),
        (3, "8", "WorkerRecords", 1),
        (3, "8", "WorkerPublishes", 1),
        (3, "8", "WorkerAcknowledges", 0),
    ];
    // The first worker ended after the POST.
    let killed = [&ROUTED[..], &DELIVERED[..3], &again].concat();
    assert!(is_explained(&killed, &[2]));
    assert!(!is_explained(&killed, &[]), "nothing ended, and two workers had the job");
    let without_lease = [&ROUTED[..], &DELIVERED[..3], &again[..4], &again[7..]].concat();
    assert!(!is_explained(&without_lease, &[2]), "sent again without a lease");
}

/// A worker that lives got the job of a killed one, and the job that this one had published, at once.
const TWO_COPIES: [(u32, &str, &str, u8); 13] = [
    (3, "7", "WorkerTakes", 1),
    (3, "7", "WorkerBegins", 1),
    (3, "7", "WorkerPublishes", 1),
    (3, "7", "WorkerAcknowledges", 0),
    (3, "9", "WorkerTakes", 2),
    (3, "9", "WorkerTakes", 2),
    (3, "9", "WorkerBegins", 2),
    (3, "9", "WorkerBegins", 2),
    (3, "9", "WorkerReads", 2),
    (3, "9", "WorkerSends", 2),
    (3, "9", "WorkerRecords", 2),
    (3, "9", "WorkerPublishes", 2),
    (3, "9", "WorkerAcknowledges", 0),
];

/// The other copy comes back when the lease is over, and finds the row.
const BACK_AGAIN: [(u32, &str, &str, u8); 6] = [
    (3, "9", "WorkerPublishes", 2),
    (3, "9", "WorkerAcknowledges", 0),
    (3, "10", "WorkerTakes", 2),
    (3, "10", "WorkerBegins", 2),
    (3, "10", "WorkerPublishes", 2),
    (3, "10", "WorkerAcknowledges", 0),
];

#[test]
fn copies_that_a_task_received_together_are_jobs_of_their_own() {
    // The first worker ended when it had published the retry, and had not acknowledged its job.
    let killed = [&ROUTED[..], &DELIVERED[..5], &TWO_COPIES, &BACK_AGAIN].concat();
    assert!(is_explained(&killed, &[2]));
    assert!(!is_explained(&killed, &[]), "nothing ended, and there were two copies");
    let never_back = [&ROUTED[..], &DELIVERED[..5], &TWO_COPIES].concat();
    assert!(!is_explained(&never_back, &[2]), "a copy was neither put off nor acknowledged");
    let mut both = killed;
    both.insert(ROUTED.len() + 5 + 9, (3, "9", "WorkerReads", 2));
    assert!(!is_explained(&both, &[2]), "both copies have the lease");
}
