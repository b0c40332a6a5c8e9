//! Each check finds its failure, in evidence of one delivery.

use fanfare_core::ids::EventKey;
use uuid::Uuid;

use super::*;
use crate::fault::Fault;
use crate::ledger::{Row, StoredEvent};
use crate::mood::Mood;
use crate::publisher::event_id;
use crate::world::{ALL_GRANTS, Directory, Kind, Resource, SOURCE, WEBHOOKS};

/// The owner's webhook that gets alerts and tasks, and the one that gets everything.
const PLAN: [Webhook; 2] = [0, 1];

fn webhook_ids() -> Vec<WebhookId> {
    (1..=WEBHOOKS as u128).map(|n| WebhookId(Uuid::from_u128(n))).collect()
}

fn post(batch: BatchKey, webhook: Webhook) -> Post {
    let id = DeliveryId::of(batch, webhook_ids()[webhook]);
    Post { at: 1000.0, webhook, id, attempt: 1, events: vec![0], mood: Mood::Well }
}

fn row(state: &str, reason: &str) -> Row {
    Row { attempt: 1, state: state.to_owned(), reason: reason.to_owned(), revision: 0 }
}

/// One event of a task, delivered to both webhooks.
fn evidence() -> Evidence {
    let webhooks = webhook_ids();
    let batch = BatchKey::single(EventKey::of(SOURCE, &event_id(0)));
    let resource = Resource { kind: Kind::Task, of: Some(0) };
    let events = vec![Event { resource, revision: Some(1), batch }];
    let mut directory = Directory::new();
    directory.change(0, 0);
    let plan = PLAN.map(|webhook| webhooks[webhook]);
    let stored = StoredEvent { received_at: 999.0, decided_revision: 1, webhooks: plan.to_vec() };
    let ledger = Ledger {
        events: [(event_id(0), stored)].into(),
        deliveries: plan.map(|id| ((batch, id), vec![row("delivered", "")])).into(),
        applied: [(2, 1000.0)].into(),
        ..Ledger::default()
    };
    Evidence {
        published: Published { events, directory, batches: 0 },
        ledger,
        posts: PLAN.map(|webhook| post(batch, webhook)).to_vec(),
        letters: HashSet::new(),
        refused: Vec::new(),
        incidents: Vec::new(),
        skipped: 0,
        webhooks,
        failures: Vec::new(),
    }
}

/// The kinds of failures after a change of good evidence.
fn found(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = evidence();
    change(&mut evidence);
    judge(&evidence).failures.into_keys().collect()
}

fn batch_of(evidence: &Evidence) -> BatchKey {
    evidence.published.events[0].batch
}

/// Replaces the row of the first webhook's delivery.
fn set_row(evidence: &mut Evidence, row: Row) {
    let key = (batch_of(evidence), evidence.webhooks[0]);
    evidence.ledger.deliveries.insert(key, vec![row]);
}

/// Takes the first webhook out of the plan.
fn unplan_first(evidence: &mut Evidence) {
    let first = evidence.webhooks[0];
    evidence.ledger.events.values_mut().for_each(|it| it.webhooks.retain(|id| *id != first));
}

#[test]
fn good_evidence_passes() {
    assert_eq!(found(|_| ()), [""; 0]);
}

#[test]
fn losses_are_found() {
    let lost_event = found(|it| it.ledger.events.clear());
    assert!(lost_event.contains(&"lost: an event is not in the ledger"), "{lost_event:?}");
    let not_planned = found(|it| {
        unplan_first(it);
        it.posts.remove(0);
    });
    assert_eq!(not_planned, ["lost: a webhook is not in the plan"]);
    for open in [row("retrying", ""), row("pending", "")] {
        assert_eq!(found(|it| set_row(it, open)), ["lost: a delivery has no outcome"]);
    }
    let untried = found(|it| it.ledger.deliveries.clear());
    assert_eq!(untried, ["lost: a delivery has no outcome"]);
}

#[test]
fn webhook_that_was_paused_need_not_be_planned() {
    let paused = found(|it| {
        let webhook = it.webhooks[0];
        unplan_first(it);
        it.posts.remove(0);
        it.ledger.pauses.push(crate::ledger::Pause { webhook, from: 990.0, to: 1010.0 });
    });
    assert_eq!(paused, [""; 0]);
}

#[test]
fn ledger_that_says_more_than_happened_is_found() {
    let only = ["a delivery is delivered in the ledger only"];
    assert_eq!(found(|it| drop(it.posts.remove(0))), only);
    assert_eq!(found(|it| it.posts[0].mood = Mood::Failing), only);
    assert_eq!(found(|it| it.posts[0].attempt = 2), only);
    let dead = ["a dead delivery has no dead letter"];
    assert_eq!(found(|it| set_row(it, row("dead", "exhausted"))), dead);
    let with_letter = found(|it| {
        set_row(it, row("dead", "exhausted"));
        it.letters.insert((batch_of(it), it.webhooks[0]));
    });
    assert_eq!(with_letter, [""; 0]);
}

#[test]
fn drops_need_their_cause() {
    let without = ["a delivery was dropped without a cause"];
    assert_eq!(found(|it| set_row(it, row("dropped", "webhook-paused"))), without);
    assert_eq!(found(|it| set_row(it, row("dropped", "owner-deleted"))), without);
    // The second revision took the access away.
    assert_eq!(found(|it| set_row(it, row("dropped", "access-revoked"))), [""; 0]);
}

#[test]
fn leaks_are_found() {
    let foreign = found(|it| it.posts[0].webhook = 7);
    assert_eq!(foreign, ["leak: a POST has what its plan does not have"]);
    let unknown = found(|it| it.posts.push(post(batch_of(it), 9)));
    assert_eq!(unknown, ["leak: a POST is of no planned delivery"]);
    let planned = found(|it| {
        let id = it.webhooks[9];
        it.ledger.events.values_mut().for_each(|event| event.webhooks.push(id));
        it.ledger.deliveries.insert((batch_of(it), id), vec![row("delivered", "")]);
        it.posts.push(post(batch_of(it), 9));
    });
    assert_eq!(planned, ["leak: a plan has a webhook whose owner may not read"]);
    let late = found(|it| it.posts[0].at = 2000.0);
    assert_eq!(late, ["leak: a POST came long after its owner lost access"]);
    let decided = found(|it| set_row(it, Row { revision: 2, ..row("delivered", "") }));
    assert_eq!(decided, ["leak: an attempt was decided against the directory"]);
}

#[test]
fn event_without_a_revision_is_judged_by_what_had_come() {
    let planned_without_access = |applied: f64, received_at: f64| {
        found(|it| {
            it.published.events[0].revision = None;
            it.ledger.applied.insert(2, applied);
            for event in it.ledger.events.values_mut() {
                (event.decided_revision, event.received_at) = (2, received_at);
            }
            it.posts.iter_mut().for_each(|post| post.at = received_at);
        })
    };
    let leak = ["leak: a plan has a webhook whose owner may not read"];
    assert_eq!(planned_without_access(1000.0, 1100.0), leak);
    // The document may have been committed after the plan.
    assert_eq!(planned_without_access(1000.0, 1030.0), [""; 0]);
    assert_eq!(planned_without_access(1040.0, 1030.0), [""; 0]);
}

/// The kinds of failures if the first attempt was decided at this revision, by a directory in which
/// revision 2 takes the access away, 3 is another owner's, and 4 gives the access back. Each has come
/// at its time.
fn found_by_verdict(revision: i64, [second, third, fourth]: [f64; 3]) -> Vec<&'static str> {
    found(|it| {
        it.published.directory.change(1, ALL_GRANTS);
        it.published.directory.change(0, ALL_GRANTS);
        it.ledger.applied = [(1, 900.0), (2, second), (3, third), (4, fourth)].into();
        set_row(it, Row { revision, ..row("delivered", "") });
    })
}

#[test]
fn attempt_is_judged_by_what_had_come() {
    const LATER: f64 = 1500.0;
    let leak = ["leak: an attempt was decided against the directory"];
    assert_eq!(found_by_verdict(2, [950.0, LATER, LATER]), leak);
    assert_eq!(found_by_verdict(3, [950.0, 960.0, LATER]), leak);
    // It came after a newer one, so the verdict may have been made before.
    assert_eq!(found_by_verdict(3, [970.0, 960.0, LATER]), [""; 0]);
    assert_eq!(found_by_verdict(3, [LATER, 960.0, LATER]), [""; 0]);
    // Access came back between reading the revision and asking.
    assert_eq!(found_by_verdict(2, [950.0, 960.0, 970.0]), [""; 0]);
    assert_eq!(found_by_verdict(2, [950.0, 960.0, LATER]), leak);
}

#[test]
fn access_that_came_back_is_no_leak() {
    let back = found(|it| {
        it.published.directory.change(0, ALL_GRANTS);
        it.ledger.applied.insert(3, 1900.0);
        it.posts[0].at = 2000.0;
    });
    assert_eq!(back, [""; 0]);
}

#[test]
fn duplicates_need_an_explanation() {
    let again = |it: &mut Evidence| {
        let again = Post { at: 1030.0, ..it.posts[0].clone() };
        it.posts.push(again);
    };
    assert_eq!(found(again), ["a duplicate without an explanation"]);
    let mut evidence = evidence();
    again(&mut evidence);
    // A router's death explains nothing, nor does a worker's that came too late.
    evidence.incidents = vec![
        Incident { fault: Fault::Kill(0), from: 1001.0, to: 1002.0 },
        Incident { fault: Fault::Kill(3), from: 1020.0, to: 1021.0 },
    ];
    assert!(!judge(&evidence).passed());
    evidence.incidents.push(Incident { fault: Fault::BrokerKilled, from: 1003.0, to: 1009.0 });
    evidence.incidents.push(Incident { fault: Fault::Kill(2), from: 1002.0, to: 1003.0 });
    let findings = judge(&evidence);
    assert!(findings.passed());
    assert_eq!(findings.duplicates, [(Part::WorkerKilled, 1)].into());
}
