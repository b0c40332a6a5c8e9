//! Every planned delivery has ended, as the ledger says.

use super::{Case, Delivery, Findings};
use crate::ledger::Row;
use crate::world::owner_of;
use fanfare_core::ids::DeliveryId;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    for (id, delivery) in &case.deliveries {
        let key = (delivery.batch, case.webhook_id(delivery.webhook));
        let rows = case.evidence.ledger.deliveries.get(&key);
        let Some(last) = rows.and_then(|rows| rows.last()) else {
            findings.fail("lost: a delivery has no outcome", format!("{id}: never attempted"));
            continue;
        };
        let outcome = match last.reason.as_str() {
            "" => last.state.clone(),
            reason => format!("{} ({reason})", last.state),
        };
        *findings.outcomes.entry(outcome).or_default() += 1;
        match last.state.as_str() {
            "delivered" if !is_delivered(case, *id, last) => {
                let what = format!("{id}, attempt {}", last.attempt);
                findings.fail("a delivery is delivered in the ledger only", what);
            }
            "dropped" if !is_droppable(case, delivery, last) => {
                let what = format!("{id}: {}", last.reason);
                findings.fail("a delivery was dropped without a cause", what);
            }
            "dead" if !case.evidence.letters.contains(&key) => {
                let what = format!("{id}: {}", last.reason);
                findings.fail("a dead delivery has no dead letter", what);
            }
            "delivered" | "dropped" | "dead" => {}
            state => findings.fail("lost: a delivery has no outcome", format!("{id}: {state}")),
        }
    }
}

/// Whether the receiver accepted the attempt of the row.
fn is_delivered(case: &Case<'_>, id: DeliveryId, row: &Row) -> bool {
    let posts = case.posts.get(&id).into_iter().flatten();
    posts.filter(|post| post.attempt == row.attempt).any(|post| post.mood.accepts())
}

/// Whether the reason of a drop was given.
fn is_droppable(case: &Case<'_>, delivery: &Delivery, row: &Row) -> bool {
    let id = case.webhook_id(delivery.webhook);
    match row.reason.as_str() {
        "webhook-paused" => case.evidence.ledger.pauses.iter().any(|it| it.webhook == id),
        "access-revoked" => {
            let versions = case.evidence.published.directory.versions(owner_of(delivery.webhook));
            delivery.events.iter().all(|number| {
                let planned_by = case.plan_revisions(delivery.webhook, *number);
                let first = planned_by.first().copied().unwrap_or_default();
                let later = versions.iter().map(|(from, _)| *from).filter(|from| *from > first);
                later.into_iter().any(|from| !case.may_read(delivery.webhook, *number, from))
            })
        }
        _ => false,
    }
}
