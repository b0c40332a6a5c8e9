//! Every confirmed event is in the ledger, with the plan that the reference gives it.

use super::{Case, Findings};
use crate::ledger::StoredEvent;
use crate::world::{WEBHOOKS, Webhook};

/// The plan is made when the transaction reads the webhooks, and the time of a pause is noted just
/// before it is committed: between the two may be a slow or stopped statement.
const PAUSE_MARGIN: f64 = 60.0;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    for (number, event) in case.evidence.published.events.iter().enumerate() {
        let Some(stored) = case.evidence.ledger.event(number) else {
            findings.fail("lost: an event is not in the ledger", format!("event {number}"));
            continue;
        };
        if event.revision.is_some_and(|revision| stored.decided_revision < revision) {
            let (asked, decided) = (event.revision, stored.decided_revision);
            let what = format!("event {number} asked for {asked:?}, decided by {decided}");
            findings.fail("an event was decided before its revision", what);
        }
        for webhook in 0..WEBHOOKS {
            check_webhook(case, (number, stored), webhook, findings);
        }
    }
}

/// Whether a webhook is in the plan of an event if it must be, and only if it may be.
fn check_webhook(
    case: &Case<'_>,
    (number, stored): (usize, &StoredEvent),
    webhook: Webhook,
    findings: &mut Findings,
) {
    let id = case.webhook_id(webhook);
    let is_planned = stored.webhooks.contains(&id);
    let revisions = case.plan_revisions(webhook, number);
    let resource = case.event(number).resource;
    let is_for =
        |revision: &i64| case.evidence.published.directory.plans(webhook, resource, *revision);
    let what = || format!("event {number} for webhook {webhook}, revisions {revisions:?}");
    if is_planned && !revisions.iter().any(is_for) {
        findings.fail("leak: a plan has a webhook whose owner may not read", what());
    }
    let was_paused = || case.evidence.ledger.was_paused(id, stored.received_at, PAUSE_MARGIN);
    if !is_planned && revisions.iter().all(is_for) && !was_paused() {
        findings.fail("lost: a webhook is not in the plan", what());
    }
}
