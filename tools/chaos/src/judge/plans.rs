//! Every confirmed event is in the ledger, with the plan that the reference gives it.

use super::{Case, Findings};

/// The plan is made when the transaction reads the webhooks, and the time of a pause is noted just
/// before it is committed: between the two may be a slow or stopped statement.
const PAUSE_MARGIN: f64 = 60.0;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let evidence = case.evidence;
    for (number, event) in evidence.published.events.iter().enumerate() {
        let (Some(stored), Some(revision)) =
            (evidence.ledger.event(number), case.planned_by(number))
        else {
            findings.fail("lost: an event is not in the ledger", format!("event {number}"));
            continue;
        };
        if stored.decided_revision < revision {
            let what = format!("event {number}: {} < {revision}", stored.decided_revision);
            findings.fail("an event was decided before its revision", what);
        }
        let planned = evidence.published.directory.plan(event.resource, revision);
        for webhook in &planned {
            let id = case.webhook_id(*webhook);
            let was_paused = || evidence.ledger.was_paused(id, stored.received_at, PAUSE_MARGIN);
            if !stored.webhooks.contains(&id) && !was_paused() {
                let what = format!("event {number} for webhook {webhook}, revision {revision}");
                findings.fail("lost: a webhook is not in the plan", what);
            }
        }
        for id in &stored.webhooks {
            let is_planned = planned.iter().any(|webhook| case.webhook_id(*webhook) == *id);
            if !is_planned {
                let what = format!("event {number} for webhook {id}, revision {revision}");
                findings.fail("leak: a plan has a webhook whose owner may not read", what);
            }
        }
    }
}
