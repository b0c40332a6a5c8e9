//! Each verdict, and the order of what speaks for it.

use chrono::TimeDelta;
use fanfare_core::filter::Filters;
use fanfare_core::name::Name;
use fanfare_core::suspect::Unrecorded;
use fanfare_core::webhook::{Headers, Pacing, Properties};
use fanfare_store::attempts::Last;

use super::*;

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
fn planned() -> Standing {
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
    Standing { last: None, events: vec![event], revision: 7, late_at: None, held: false }
}

/// The same after an attempt that failed, whose retry is due at the time.
fn retrying() -> Standing {
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
    Standing { last: Some(last), ..planned() }
}

fn taken(entry: i32) -> Taken {
    let batch = "00000000000000000000000000000001".parse().unwrap();
    let due = Due { batch, webhook: webhook().id, entry };
    Taken { due, first: entry == 1, redelivered: false, slot: None }
}

/// What speaks for an attempt, so many seconds after the plan.
fn facts<'a>(standing: &'a Standing, webhook: &'a Webhook, seconds: i64) -> Facts<'a> {
    Facts {
        claim: Claim::Ours(Unrecorded::default()),
        standing,
        webhook: Some(webhook),
        unreadable: false,
        owner: Some(UserStatus::Enabled),
        now: time() + TimeDelta::seconds(seconds),
        deadline: DEADLINE,
    }
}

fn attempt(by_plan: bool, alone: bool) -> Verdict {
    Verdict::Attempt { events: vec![0], by_plan, alone }
}

#[test]
fn the_plan_decides_about_first_attempts_for_half_a_minute() {
    let (planned, webhook) = (planned(), webhook());
    for owner in [Some(UserStatus::Enabled), Some(UserStatus::Disabled), None] {
        let facts = Facts { owner, ..facts(&planned, &webhook, 30) };
        // Whatever its job is called.
        for first in [true, false] {
            assert_eq!(verdict(Taken { first, ..taken(1) }, &facts), attempt(true, false));
        }
    }
    let later = |owner| Facts { owner, ..facts(&planned, &webhook, 31) };
    assert_eq!(verdict(taken(1), &later(Some(UserStatus::Enabled))), attempt(false, false));
    let disabled = later(Some(UserStatus::Disabled));
    assert_eq!(verdict(taken(1), &disabled), Verdict::Drop(DropReason::OwnerDisabled));
    assert_eq!(verdict(taken(1), &later(None)), Verdict::Drop(DropReason::OwnerDeleted));
}

#[test]
fn a_retry_is_asked_about_at_any_time() {
    let (retrying, webhook) = (retrying(), webhook());
    assert_eq!(verdict(taken(2), &facts(&retrying, &webhook, 1)), attempt(false, false));
    let owner = Some(UserStatus::Disabled);
    let facts = Facts { owner, ..facts(&retrying, &webhook, 1) };
    assert_eq!(verdict(taken(2), &facts), Verdict::Drop(DropReason::OwnerDisabled));
}

#[test]
fn what_is_asked_waits_while_the_directory_can_t_decide() {
    let webhook = webhook();
    let (retrying, planned) = (retrying(), planned());
    let held = Standing { held: true, ..retrying };
    assert_eq!(verdict(taken(2), &facts(&held, &webhook, 1)), Verdict::DirectoryHeld);
    let held = Standing { held: true, ..planned };
    assert_eq!(verdict(taken(1), &facts(&held, &webhook, 1)), attempt(true, false));
    assert_eq!(verdict(taken(1), &facts(&held, &webhook, 31)), Verdict::DirectoryHeld);
}

#[test]
fn a_webhook_that_is_paused_or_gone_gets_nothing_whatever_the_plan_says() {
    let (planned, paused) = (planned(), Webhook { paused: true, ..webhook() });
    let paused = facts(&planned, &paused, 1);
    assert_eq!(verdict(taken(1), &paused), Verdict::Drop(DropReason::WebhookPaused));
    let gone = Facts { webhook: None, ..paused };
    assert_eq!(verdict(taken(1), &gone), Verdict::Drop(DropReason::WebhookDeleted));
    assert_eq!(verdict(taken(1), &Facts { unreadable: true, ..gone }), Verdict::Unreadable);
}

#[test]
fn unrecorded_attempts_lead_to_one_alone_and_then_to_the_end() {
    let (retrying, webhook) = (retrying(), webhook());
    let of = |tries, alone| {
        let claim = Claim::Ours(Unrecorded { tries, alone });
        verdict(taken(2), &Facts { claim, ..facts(&retrying, &webhook, 1) })
    };
    assert_eq!(of(2, 0), attempt(false, false));
    assert_eq!(of(3, 0), attempt(false, true));
    assert_eq!(of(6, 3), Verdict::GiveUp(DeadReason::Poison));
}

#[test]
fn a_job_of_which_the_database_knows_nothing_is_lost_whatever_its_entry() {
    let (webhook, nothing) = (webhook(), Standing { events: Vec::new(), ..planned() });
    for entry in [1, 2, 7] {
        assert_eq!(verdict(taken(entry), &facts(&nothing, &webhook, 1)), Verdict::Lost);
    }
}

#[test]
fn what_is_not_next_or_not_ours_is_not_attempted() {
    let (retrying, webhook) = (retrying(), webhook());
    let facts = |claim| Facts { claim, ..facts(&retrying, &webhook, 1) };
    let ours = Claim::Ours(Unrecorded::default());
    assert_eq!(verdict(taken(3), &facts(ours)), Verdict::NotNext);
    assert_eq!(verdict(taken(2), &facts(Claim::Taken)), Verdict::Later);
    assert_eq!(verdict(taken(2), &facts(Claim::Past)), Verdict::Nothing);
    let redelivered = Taken { redelivered: true, ..taken(2) };
    assert_eq!(verdict(redelivered, &facts(Claim::Past)), Verdict::HandOnAgain);
}

#[test]
fn a_retry_waits_for_its_time_and_ends_at_its_deadline() {
    let (retrying, webhook) = (retrying(), webhook());
    // However little is left: a receiver that says when to come again means it.
    for early in [-10, -1] {
        assert_eq!(verdict(taken(2), &facts(&retrying, &webhook, early)), Verdict::Early);
    }
    let deadline = i64::try_from(DEADLINE.as_secs()).unwrap();
    let late = facts(&retrying, &webhook, 2 * deadline);
    assert_eq!(verdict(taken(2), &late), Verdict::GiveUp(DeadReason::Expired));
}
