//! The protocol as it is holds; each mistake in it is found.

use crate::{Bug, Model, Promise, State, check};

fn broken(bug: Bug) -> Option<Promise> {
    let report = check(Model { bug }, State::confirmed(1, 2, 1));
    report.failure.map(|failure| failure.promise)
}

#[test]
fn every_promise_holds_whatever_fails_once() {
    let report = check(Model::default(), State::confirmed(1, 2, 1));
    assert!(report.failure.is_none(), "{:#?}", report.failure);
    // The states are many, or the model does not do what it should.
    assert!(report.states > 100_000, "{}", report.states);
}

#[test]
fn every_promise_holds_with_one_worker_whatever_fails_twice() {
    let report = check(Model::default(), State::confirmed(1, 1, 2));
    assert!(report.failure.is_none(), "{:#?}", report.failure);
}

#[test]
fn every_promise_holds_for_a_delivery_of_one_attempt_whatever_fails_twice() {
    let report = check(Model::default(), State::planned(2, 2).with_one_attempt());
    assert!(report.failure.is_none(), "{:#?}", report.failure);
}

#[test]
fn acknowledging_a_job_before_the_record_loses_a_delivery() {
    assert_eq!(broken(Bug::AckBeforeRecord), Some(Promise::Ends));
}

#[test]
fn recording_after_the_acknowledgement_loses_a_delivery() {
    assert_eq!(broken(Bug::RecordAfterAck), Some(Promise::Ends));
}

#[test]
fn acknowledging_an_event_before_its_plan_loses_a_delivery() {
    assert_eq!(broken(Bug::EventAckBeforePlan), Some(Promise::Ends));
}

#[test]
fn acknowledging_a_job_before_its_follow_up_is_published_loses_a_delivery() {
    assert_eq!(broken(Bug::AckBeforeFollowUp), Some(Promise::Ends));
}

#[test]
fn a_follow_up_that_is_published_twice_is_two_jobs_of_one_delivery() {
    assert_eq!(broken(Bug::FollowUpTwice), Some(Promise::OneJob));
}

#[test]
fn a_retry_without_a_lease_is_sent_twice() {
    assert_eq!(broken(Bug::RetryWithoutLease), Some(Promise::OnePost));
}

#[test]
fn a_lease_given_back_before_the_row_lets_an_attempt_be_sent_twice() {
    assert_eq!(broken(Bug::LeaseGivenBack), Some(Promise::OnePost));
}

#[test]
fn a_recheck_that_overtakes_its_job_lets_an_attempt_be_sent_twice() {
    assert_eq!(broken(Bug::RecheckOvertakes), Some(Promise::OnePost));
}

#[test]
fn a_recheck_without_the_answers_of_other_workers_lets_an_attempt_be_sent_twice() {
    assert_eq!(broken(Bug::RecheckWithoutAnswers), Some(Promise::OnePost));
}

#[test]
fn a_retry_judged_by_the_plan_is_sent_after_a_revocation() {
    assert_eq!(broken(Bug::RetryByPlan), Some(Promise::NoLeak));
}

#[test]
fn a_last_attempt_without_its_job_may_leave_no_dead_letter() {
    assert_eq!(broken(Bug::LastIsReleased), Some(Promise::Ends));
}

#[test]
fn an_attempt_sent_late_without_a_look_is_sent_twice() {
    assert_eq!(broken(Bug::LateSend), Some(Promise::OnePost));
}

#[test]
fn without_a_reconciler_a_wiped_broker_loses_deliveries() {
    assert_eq!(broken(Bug::NoReconciler), Some(Promise::Ends));
}

#[test]
fn a_deferral_that_forgets_the_doubt_about_its_job_may_leave_no_dead_letter() {
    let start = State::planned(2, 2).with_one_attempt();
    let report = check(Model { bug: Bug::DeferralForgetsDoubt }, start);
    assert_eq!(report.failure.map(|failure| failure.promise), Some(Promise::Ends));
}

#[test]
fn a_lease_that_ends_with_a_session_without_a_grace_lets_an_attempt_be_sent_twice() {
    assert_eq!(broken(Bug::LeaseVoidWithoutGrace), Some(Promise::OnePost));
}
