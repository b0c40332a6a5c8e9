//! Each decision, and the order of the facts that it depends on.

use chrono::TimeDelta;
use fanfare_core::filter::Filters;
use fanfare_core::name::Name;
use fanfare_core::suspect::Unrecorded;
use fanfare_core::webhook::{Headers, Pacing, Properties};
use fanfare_store::attempts::Last;

use super::*;
use crate::due_delivery::AttemptKind;

const DEADLINE: Duration = Duration::from_hours(72);

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn webhook() -> Webhook {
    Webhook {
        id: "00000000000000000000000000000002".parse().unwrap(),
        owner: Name::parse("anna").unwrap(),
        uri: "http://127.0.0.1/".parse().unwrap(),
        secrets: Vec::new(),
        description: None,
        paused: false,
        paused_reason: None,
        filters: Filters::default(),
        headers: Headers::default(),
        properties: Properties::default(),
        created_at: time(),
        failing_since: None,
        rate_limit: None,
        pacing: Pacing::default(),
    }
}

/// A delivery of one event that was planned at the time.
fn planned() -> DeliveryHistory {
    let event = PlannedEvent {
        notification: None,
        size: 0,
        subject: "tasks/t1".to_owned(),
        event_type: "tasks.execute".to_owned(),
        event_id: "1".to_owned(),
        traceparent: None,
        decided_revision: 7,
        received_at: time(),
    };
    DeliveryHistory { last: None, events: vec![event], revision: 7, late_at: None, held: false }
}

/// The same after an attempt that failed, whose retry is due at the time.
fn retrying() -> DeliveryHistory {
    let last = Last {
        entry: 1,
        attempt: 1,
        tries: 1,
        since: time(),
        state: State::Retrying,
        reason: None,
        status: Some(500),
        at: time(),
        next_attempt_at: Some(time()),
        revision: 7,
        whole: true,
    };
    DeliveryHistory { last: Some(last), ..planned() }
}

fn delivery(entry: i32) -> DueDelivery {
    let batch = "00000000000000000000000000000001".parse().unwrap();
    let due = Due { batch, webhook: webhook().id, entry };
    DueDelivery {
        due,
        kind: if entry == 1 { AttemptKind::First } else { AttemptKind::Later },
        redelivered: false,
        slot: None,
    }
}

/// Facts that allow an attempt, at this number of seconds after the plan.
fn facts<'a>(history: &'a DeliveryHistory, webhook: &'a Webhook, seconds: i64) -> Facts<'a> {
    Facts {
        claim: Claim::Ours(Unrecorded::default()),
        history,
        webhook: Some(webhook),
        unreadable: false,
        owner: Some(UserStatus::Enabled),
        now: time() + TimeDelta::seconds(seconds),
        deadline: DEADLINE,
    }
}

fn attempt(by_plan: bool, solo: bool) -> Decision {
    Decision::Attempt { events: vec![0], by_plan, solo }
}

#[test]
fn first_attempts_up_to_30_s_after_the_plan_are_decided_by_the_plan() {
    let (planned, webhook) = (planned(), webhook());
    for owner in [Some(UserStatus::Enabled), Some(UserStatus::Disabled), None] {
        let facts = Facts { owner, ..facts(&planned, &webhook, 30) };
        // The kind of its job makes no difference.
        for kind in [AttemptKind::First, AttemptKind::Later] {
            assert_eq!(decision(DueDelivery { kind, ..delivery(1) }, &facts), attempt(true, false));
        }
    }
    let later = |owner| Facts { owner, ..facts(&planned, &webhook, 31) };
    assert_eq!(decision(delivery(1), &later(Some(UserStatus::Enabled))), attempt(false, false));
    let disabled = later(Some(UserStatus::Disabled));
    assert_eq!(decision(delivery(1), &disabled), Decision::Drop(DropReason::OwnerDisabled));
    assert_eq!(decision(delivery(1), &later(None)), Decision::Drop(DropReason::OwnerDeleted));
}

#[test]
fn retries_are_decided_again_at_any_time() {
    let (retrying, webhook) = (retrying(), webhook());
    assert_eq!(decision(delivery(2), &facts(&retrying, &webhook, 1)), attempt(false, false));
    let owner = Some(UserStatus::Disabled);
    let facts = Facts { owner, ..facts(&retrying, &webhook, 1) };
    assert_eq!(decision(delivery(2), &facts), Decision::Drop(DropReason::OwnerDisabled));
}

#[test]
fn deliveries_that_need_the_directory_wait_while_it_is_held() {
    let webhook = webhook();
    let (retrying, planned) = (retrying(), planned());
    let held = DeliveryHistory { held: true, ..retrying };
    assert_eq!(decision(delivery(2), &facts(&held, &webhook, 1)), Decision::DirectoryHeld);
    let held = DeliveryHistory { held: true, ..planned };
    assert_eq!(decision(delivery(1), &facts(&held, &webhook, 1)), attempt(true, false));
    assert_eq!(decision(delivery(1), &facts(&held, &webhook, 31)), Decision::DirectoryHeld);
}

#[test]
fn deliveries_of_a_paused_or_deleted_webhook_are_dropped_even_if_planned() {
    let (planned, paused) = (planned(), Webhook { paused: true, ..webhook() });
    let paused = facts(&planned, &paused, 1);
    assert_eq!(decision(delivery(1), &paused), Decision::Drop(DropReason::WebhookPaused));
    let gone = Facts { webhook: None, ..paused };
    assert_eq!(decision(delivery(1), &gone), Decision::Drop(DropReason::WebhookDeleted));
    assert_eq!(decision(delivery(1), &Facts { unreadable: true, ..gone }), Decision::Unreadable);
}

#[test]
fn unrecorded_attempts_lead_to_a_solo_attempt_and_then_to_poison() {
    let (retrying, webhook) = (retrying(), webhook());
    let of = |tries, alone| {
        let claim = Claim::Ours(Unrecorded { tries, alone });
        decision(delivery(2), &Facts { claim, ..facts(&retrying, &webhook, 1) })
    };
    assert_eq!(of(2, 0), attempt(false, false));
    assert_eq!(of(3, 0), attempt(false, true));
    assert_eq!(of(6, 3), Decision::GiveUp(DeadReason::Poison));
}

#[test]
fn a_delivery_without_events_in_the_ledger_is_lost_at_any_sequence_number() {
    let (webhook, nothing) = (webhook(), DeliveryHistory { events: Vec::new(), ..planned() });
    for entry in [1, 2, 7] {
        assert_eq!(decision(delivery(entry), &facts(&nothing, &webhook, 1)), Decision::Lost);
    }
}

#[test]
fn a_job_that_is_not_next_or_not_claimed_is_not_attempted() {
    let (retrying, webhook) = (retrying(), webhook());
    let facts = |claim| Facts { claim, ..facts(&retrying, &webhook, 1) };
    let ours = Claim::Ours(Unrecorded::default());
    assert_eq!(decision(delivery(3), &facts(ours)), Decision::OutOfSequence);
    assert_eq!(decision(delivery(2), &facts(Claim::HeldElsewhere)), Decision::Contended);
    assert_eq!(decision(delivery(2), &facts(Claim::HolderGone)), Decision::HolderGone);
    assert_eq!(decision(delivery(2), &facts(Claim::Past)), Decision::Superseded);
    let redelivered = DueDelivery { redelivered: true, ..delivery(2) };
    assert_eq!(decision(redelivered, &facts(Claim::Past)), Decision::RepublishFollowUp);
}

#[test]
fn a_retry_waits_until_it_is_due_and_expires_after_its_deadline() {
    let (retrying, webhook) = (retrying(), webhook());
    // Even if little is left: the receiver named the time.
    for early in [-10, -1] {
        assert_eq!(decision(delivery(2), &facts(&retrying, &webhook, early)), Decision::NotYetDue);
    }
    let deadline = i64::try_from(DEADLINE.as_secs()).unwrap();
    let late = facts(&retrying, &webhook, 2 * deadline);
    assert_eq!(decision(delivery(2), &late), Decision::GiveUp(DeadReason::Expired));
}
