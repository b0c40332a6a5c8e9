//! Each decision about a delivery, and the order of the facts that it depends on.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

const DEADLINE: Duration = Duration::from_hours(72);

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

/// A first attempt of a delivery with two events, a second after its plan.
fn first() -> Facts {
    Facts {
        now: time(1),
        sequence: 1,
        redelivered: false,
        lease: LeaseAnswer::Granted(Unrecorded::default()),
        planned_at: Some(time(0)),
        last: None,
        started_at: time(0),
        webhook: WebhookState::Active,
        owner: OwnerState::Enabled,
        directory_held: false,
        events: 2,
        payload_removed: false,
        denied: None,
        deferred: None,
        shadow: false,
        deadline: DEADLINE,
    }
}

/// A retry that is due now, all of whose events the owner may read.
fn retry() -> Facts {
    let last = LastRow { sequence: 1, state: State::Retrying, next_attempt_at: Some(time(1)) };
    Facts { sequence: 2, last: Some(last), denied: Some(Vec::new()), ..first() }
}

fn send(by_plan: bool, solo: bool, left_out: &[usize]) -> Decision {
    Decision::Send(Sending { left_out: left_out.to_vec(), by_plan, solo })
}

fn unrecorded(tries: i32, alone: i32) -> LeaseAnswer {
    LeaseAnswer::Granted(Unrecorded { tries, alone })
}

const BUSY: Deferred = Deferred { cause: Cause::Busy, wait: Duration::from_secs(4) };
const EXPIRED: i64 = 72 * 3600 + 9 * 3600 + 30;

/// What differs from the usual facts, in words and as a change, and the decision.
type Row = (&'static str, fn(&mut Facts), Decision);

fn assert_decisions(facts: &Facts, rows: Vec<Row>) {
    for (name, change, expected) in rows {
        let mut changed = facts.clone();
        change(&mut changed);
        assert_eq!(decide(&changed), expected, "{name}");
    }
}

#[test]
fn first_attempts() {
    use Decision::{CheckAccess, Contended, Dead, Defer, Drop, OutOfSequence};
    let plan_is_old = |it: &mut Facts| it.now = time(31);
    let rows: Vec<Row> = vec![
        ("usual", |_| {}, send(true, false, &[])),
        ("without a lease", |it| it.lease = LeaseAnswer::NotAsked, send(true, false, &[])),
        ("30 s after the plan", |it| it.now = time(30), send(true, false, &[])),
        ("before the plan, by a slow clock", |it| it.now = time(-9), send(true, false, &[])),
        ("owner disabled", |it| it.owner = OwnerState::Disabled, send(true, false, &[])),
        ("owner deleted", |it| it.owner = OwnerState::Deleted, send(true, false, &[])),
        ("directory held", |it| it.directory_held = true, send(true, false, &[])),
        ("redelivered", |it| it.redelivered = true, send(true, false, &[])),
        ("31 s after the plan", plan_is_old, CheckAccess),
        ("webhook paused", |it| it.webhook = WebhookState::Paused, Drop(DropReason::WebhookPaused)),
        (
            "webhook deleted",
            |it| it.webhook = WebhookState::Deleted,
            Drop(DropReason::WebhookDeleted),
        ),
        (
            "webhook unreadable",
            |it| it.webhook = WebhookState::Unreadable,
            Defer(Deferred::UNREADABLE),
        ),
        ("payload removed", |it| it.payload_removed = true, Drop(DropReason::PayloadRemoved)),
        ("endpoint busy", |it| it.deferred = Some(BUSY), Defer(BUSY)),
        ("leased elsewhere", |it| it.lease = LeaseAnswer::HeldElsewhere, Contended),
        ("holder gone", |it| it.lease = LeaseAnswer::HolderGone, Decision::HolderGone),
        ("events unknown", |it| it.planned_at = None, Dead(DeadReason::LedgerLost)),
        ("of another number", |it| it.sequence = 2, OutOfSequence),
        ("three unrecorded attempts", |it| it.lease = unrecorded(3, 0), send(true, true, &[])),
    ];
    assert_decisions(&first(), rows);
    let rows: Vec<Row> = vec![
        ("allowed", |it| it.denied = Some(Vec::new()), send(false, false, &[])),
        ("owner disabled", |it| it.owner = OwnerState::Disabled, Drop(DropReason::OwnerDisabled)),
        ("owner deleted", |it| it.owner = OwnerState::Deleted, Drop(DropReason::OwnerDeleted)),
        ("directory held", |it| it.directory_held = true, Defer(Deferred::DIRECTORY_HELD)),
    ];
    let mut late = first();
    plan_is_old(&mut late);
    assert_decisions(&late, rows);
}

/// In shadow mode, everything is decided as always, and what would be sent is dropped.
#[test]
fn shadow_mode_changes_only_what_would_be_sent() {
    let shadowed = Decision::Drop(DropReason::Shadow);
    for facts in [first(), retry()] {
        let shadow = Facts { shadow: true, ..facts };
        let busy = Facts { deferred: Some(BUSY), ..shadow.clone() };
        assert_eq!((decide(&shadow), decide(&busy)), (shadowed.clone(), shadowed.clone()));
    }
    let rows: Vec<Row> = vec![
        ("access not checked", |it| it.denied = None, Decision::CheckAccess),
        ("one event denied", |it| it.denied = Some(vec![1]), shadowed),
        (
            "all events denied",
            |it| it.denied = Some(vec![0, 1]),
            Decision::Drop(DropReason::AccessRevoked),
        ),
        (
            "webhook paused",
            |it| it.webhook = WebhookState::Paused,
            Decision::Drop(DropReason::WebhookPaused),
        ),
        ("past", |it| it.lease = LeaseAnswer::Past, Decision::Superseded),
        ("early", |it| it.now -= TimeDelta::milliseconds(1), Decision::NotYetDue),
    ];
    assert_decisions(&Facts { shadow: true, ..retry() }, rows);
}

#[test]
fn retries() {
    use Decision::{CheckAccess, Contended, Dead, Defer, Drop, NotYetDue, OutOfSequence};
    use Decision::{RepublishFollowUp, Superseded};
    fn last(facts: &mut Facts) -> &mut LastRow {
        facts.last.as_mut().unwrap()
    }
    let rows: Vec<Row> = vec![
        ("usual", |_| {}, send(false, false, &[])),
        ("access not checked", |it| it.denied = None, CheckAccess),
        ("one event denied", |it| it.denied = Some(vec![1]), send(false, false, &[1])),
        ("all events denied", |it| it.denied = Some(vec![0, 1]), Drop(DropReason::AccessRevoked)),
        ("owner disabled", |it| it.owner = OwnerState::Disabled, Drop(DropReason::OwnerDisabled)),
        ("owner deleted", |it| it.owner = OwnerState::Deleted, Drop(DropReason::OwnerDeleted)),
        ("directory held", |it| it.directory_held = true, Defer(Deferred::DIRECTORY_HELD)),
        ("webhook paused", |it| it.webhook = WebhookState::Paused, Drop(DropReason::WebhookPaused)),
        (
            "webhook deleted",
            |it| it.webhook = WebhookState::Deleted,
            Drop(DropReason::WebhookDeleted),
        ),
        (
            "webhook unreadable",
            |it| it.webhook = WebhookState::Unreadable,
            Defer(Deferred::UNREADABLE),
        ),
        ("endpoint busy", |it| it.deferred = Some(BUSY), Defer(BUSY)),
        ("leased elsewhere", |it| it.lease = LeaseAnswer::HeldElsewhere, Contended),
        ("holder gone", |it| it.lease = LeaseAnswer::HolderGone, Decision::HolderGone),
        ("past", |it| it.lease = LeaseAnswer::Past, Superseded),
        // Even if little is left: the receiver named the time.
        ("a millisecond early", |it| it.now -= TimeDelta::milliseconds(1), NotYetDue),
        ("a pending row", |it| last(it).state = State::Pending, send(false, false, &[])),
        ("no time named", |it| last(it).next_attempt_at = None, send(false, false, &[])),
        ("delivered", |it| last(it).state = State::Delivered, OutOfSequence),
        ("dropped", |it| last(it).state = State::Dropped, OutOfSequence),
        ("dead", |it| last(it).state = State::Dead, OutOfSequence),
        ("a number too far", |it| it.sequence = 3, OutOfSequence),
        ("a number too low", |it| it.sequence = 1, OutOfSequence),
        ("no row", |it| it.last = None, OutOfSequence),
        ("events unknown", |it| it.planned_at = None, Dead(DeadReason::LedgerLost)),
        ("two unrecorded attempts", |it| it.lease = unrecorded(2, 0), send(false, false, &[])),
        ("three unrecorded attempts", |it| it.lease = unrecorded(3, 0), send(false, true, &[])),
        ("three solo ones", |it| it.lease = unrecorded(6, 3), Dead(DeadReason::Poison)),
        ("at its latest", |it| it.now = time(EXPIRED), send(false, false, &[])),
        ("later", |it| it.now = time(EXPIRED + 1), Dead(DeadReason::Expired)),
    ];
    assert_decisions(&retry(), rows);
    let rows: Vec<Row> = vec![
        ("past", |it| it.lease = LeaseAnswer::Past, RepublishFollowUp),
        ("leased elsewhere", |it| it.lease = LeaseAnswer::HeldElsewhere, Contended),
        ("holder gone", |it| it.lease = LeaseAnswer::HolderGone, Decision::HolderGone),
        ("usual", |_| {}, send(false, false, &[])),
    ];
    assert_decisions(&Facts { redelivered: true, ..retry() }, rows);
}

#[test]
fn the_order_of_the_facts() {
    use Decision::{Contended, Dead, Defer, Drop, NotYetDue, OutOfSequence, Superseded};
    let mut all = Facts {
        now: time(EXPIRED + 1),
        lease: LeaseAnswer::Past,
        planned_at: None,
        webhook: WebhookState::Unreadable,
        owner: OwnerState::Disabled,
        directory_held: true,
        payload_removed: true,
        denied: Some(vec![0, 1]),
        deferred: Some(BUSY),
        sequence: 7,
        ..retry()
    };
    all.last.as_mut().unwrap().next_attempt_at = Some(time(2 * EXPIRED));
    // Each row takes away the fact that decided the row before.
    let rows: Vec<Row> = vec![
        ("past", |_| {}, Superseded),
        ("leased elsewhere", |it| it.lease = LeaseAnswer::HeldElsewhere, Contended),
        ("holder gone", |it| it.lease = LeaseAnswer::HolderGone, Decision::HolderGone),
        ("unreadable", |it| it.lease = unrecorded(3, 3), Defer(Deferred::UNREADABLE)),
        ("lost", |it| it.webhook = WebhookState::Paused, Dead(DeadReason::LedgerLost)),
        ("not next", |it| it.planned_at = Some(time(0)), OutOfSequence),
        ("early", |it| it.sequence = 2, NotYetDue),
        ("poison", |it| it.last.as_mut().unwrap().next_attempt_at = None, Dead(DeadReason::Poison)),
        ("expired", |it| it.lease = unrecorded(3, 2), Dead(DeadReason::Expired)),
        ("paused", |it| it.now = time(31), Drop(DropReason::WebhookPaused)),
        ("removed", |it| it.webhook = WebhookState::Active, Drop(DropReason::PayloadRemoved)),
        ("held", |it| it.payload_removed = false, Defer(Deferred::DIRECTORY_HELD)),
        ("disabled", |it| it.directory_held = false, Drop(DropReason::OwnerDisabled)),
        ("denied", |it| it.owner = OwnerState::Enabled, Drop(DropReason::AccessRevoked)),
        ("busy", |it| it.denied = Some(vec![0]), Defer(BUSY)),
        ("sent", |it| it.deferred = None, send(false, true, &[0])),
    ];
    for (name, change, expected) in rows {
        change(&mut all);
        assert_eq!(decide(&all), expected, "{name}");
    }
}

#[test]
fn an_earlier_permission_holds_while_the_directory_has_not_changed() {
    let permitted = Permitted { revision: 7, at: time(100) };
    assert!(permitted.holds(7, None));
    assert!(!permitted.holds(8, None));
    assert!(permitted.holds(7, Some(time(69))));
    // The clocks may differ by so much.
    assert!(!permitted.holds(7, Some(time(70))));
    assert!(!permitted.holds(7, Some(time(101))));
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let states = State::ALL.to_vec();
    let last = (1..4i32, prop::sample::select(states), prop::option::of(-9..9i64)).prop_map(
        |(sequence, state, due)| LastRow { sequence, state, next_attempt_at: due.map(time) },
    );
    let leases = vec![
        LeaseAnswer::NotAsked,
        unrecorded(0, 0),
        unrecorded(3, 0),
        unrecorded(6, 3),
        LeaseAnswer::HeldElsewhere,
        LeaseAnswer::Past,
    ];
    let webhooks = vec![
        WebhookState::Active,
        WebhookState::Paused,
        WebhookState::Deleted,
        WebhookState::Unreadable,
    ];
    let owners = vec![OwnerState::Enabled, OwnerState::Disabled, OwnerState::Deleted];
    let ledger = (prop::option::of(-60..60i64), prop::option::of(last), prop::bool::ANY);
    let states = (
        prop::sample::select(leases),
        prop::sample::select(webhooks),
        prop::sample::select(owners),
        prop::bool::ANY,
    );
    let denied = prop::option::of(prop::sample::subsequence(vec![0, 1], 0..=2));
    let endpoint = prop::option::of(Just(BUSY));
    (1..4i32, ledger, states, denied, endpoint).prop_map(
        |(
            sequence,
            (planned, last, redelivered),
            (lease, webhook, owner, held),
            denied,
            deferred,
        )| {
            Facts {
                now: time(0),
                sequence,
                redelivered,
                lease,
                planned_at: planned.map(time),
                last,
                started_at: planned.map_or(time(0), time),
                webhook,
                owner,
                directory_held: held,
                denied,
                deferred,
                ..first()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_is_sent_that_may_not_be(facts in any_facts()) {
        let Decision::Send(Sending { left_out, by_plan, .. }) = decide(&facts) else {
            return Ok(());
        };
        prop_assert!(!matches!(facts.lease, LeaseAnswer::HeldElsewhere | LeaseAnswer::Past));
        prop_assert_eq!(facts.webhook, WebhookState::Active);
        prop_assert_eq!(facts.deferred, None);
        prop_assert_eq!(facts.sequence, facts.last.map_or(0, |last| last.sequence) + 1);
        prop_assert!(facts.last.is_none_or(|last| !last.state.is_final()));
        prop_assert!(left_out.len() < facts.events);
        if by_plan {
            prop_assert!(facts.last.is_none());
        } else {
            prop_assert_eq!(facts.owner, OwnerState::Enabled);
            prop_assert!(!facts.directory_held);
            prop_assert_eq!(Some(left_out), facts.denied);
        }
    }

    #[test]
    fn a_lease_that_was_not_granted_ends_nothing(facts in any_facts()) {
        let ends = matches!(decide(&facts), Decision::Drop(_) | Decision::Dead(_));
        let granted = matches!(facts.lease, LeaseAnswer::Granted(_) | LeaseAnswer::NotAsked);
        prop_assert!(!ends || granted);
    }

    #[test]
    fn a_busy_endpoint_only_puts_off_what_would_be_sent(facts in any_facts()) {
        let free = decide(&Facts { deferred: None, ..facts.clone() });
        let busy = decide(&Facts { deferred: Some(BUSY), ..facts });
        match free {
            Decision::Send(_) => prop_assert_eq!(busy, Decision::Defer(BUSY)),
            other => prop_assert_eq!(busy, other),
        }
    }
}
