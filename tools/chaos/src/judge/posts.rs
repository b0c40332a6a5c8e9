//! Every POST belongs to a planned delivery, and its owner could read what it says.

use std::collections::HashMap;

use fanfare_core::ids::DeliveryId;

use super::{Case, Delivery, Findings};
use crate::clock::Time;
use crate::sink::Post;
use crate::world::{Grants, owner_of};

/// A POST that begins this long after a revocation was applied is a leak, whatever is broken: first
/// attempts go by the plan for 30 s, a verdict holds for 5 s, a process may be stopped for 40 s in
/// between, and the network may hold a request back for 20 s.
const REVOKED_FOR: Time = 100.0;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    for (id, posts) in &case.posts {
        let Some(delivery) = case.deliveries.get(id) else {
            let what = format!("{id} at webhook {}", posts[0].webhook);
            findings.fail("leak: a POST is of no planned delivery", what);
            continue;
        };
        let revisions = revisions(case, delivery);
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for post in posts {
            *counts.entry(post.attempt).or_default() += 1;
        }
        for post in posts {
            check_content(delivery, post, findings);
            check_time(case, post, findings);
            // Two POSTs of one attempt may have been decided apart; the row is that of one.
            if counts[&post.attempt] == 1
                && let Some(revision) = revisions.get(&post.attempt)
            {
                check_verdict(case, post, *revision, findings);
            }
        }
    }
}

/// The revision that each attempt was decided by, of those that the plan alone did not decide.
fn revisions(case: &Case<'_>, delivery: &Delivery) -> HashMap<u32, i64> {
    let key = (delivery.batch, case.webhook_id(delivery.webhook));
    let rows = case.evidence.ledger.deliveries.get(&key).into_iter().flatten();
    // A row without a POST has the number of the last attempt.
    let posted = rows.filter(|row| row.state != "dropped" && row.revision > 0);
    posted.map(|row| (row.attempt, row.revision)).collect()
}

fn check_content(delivery: &Delivery, post: &Post, findings: &mut Findings) {
    let is_planned = post.events.iter().all(|number| delivery.events.contains(number));
    if post.webhook != delivery.webhook || !is_planned {
        let what = describe(post.id, post);
        findings.fail("leak: a POST has what its plan does not have", what);
    }
}

fn check_verdict(case: &Case<'_>, post: &Post, revision: i64, findings: &mut Findings) {
    for number in &post.events {
        let mut possible = case.verdict_revisions(post, revision).into_iter();
        if !possible.any(|from| case.may_read(post.webhook, *number, from)) {
            let what = describe(post.id, post);
            let history = history(case, post);
            let what = format!("{what}, decided by {revision}: {history}");
            findings.fail("leak: an attempt was decided against the directory", what);
        }
    }
}

/// Whether access was gone for so long that no verdict can be that old.
fn check_time(case: &Case<'_>, post: &Post, findings: &mut Findings) {
    let applied = |revision: &i64| case.evidence.ledger.applied.get(revision).copied();
    let versions = case.evidence.published.directory.versions(owner_of(post.webhook));
    for number in &post.events {
        let Some(planned_by) = case.planned_by(*number) else { continue };
        let later = versions.iter().filter(|(from, _)| *from > planned_by);
        // What holds at the time of the POST, and whatever held in the time before it.
        let (before, within): (Vec<i64>, Vec<i64>) = later
            .map(|(from, _)| *from)
            .filter(|from| applied(from).is_some_and(|at| at <= post.at))
            .partition(|from| applied(from).is_some_and(|at| at <= post.at - REVOKED_FOR));
        let Some(newest) = before.last() else { continue };
        let ever = within.iter().chain([newest]);
        if !ever.into_iter().any(|from| case.may_read(post.webhook, *number, *from)) {
            let what = format!("{}, revoked by {newest}", describe(post.id, post));
            findings.fail("leak: a POST came long after its owner lost access", what);
        }
    }
}

/// The versions of the owner: what each grants, and how long before the POST it came.
fn history(case: &Case<'_>, post: &Post) -> String {
    let versions = case.evidence.published.directory.versions(owner_of(post.webhook));
    let version = |(from, grants): &(i64, Grants)| {
        let applied = case.evidence.ledger.applied.get(from);
        let before =
            applied.map_or_else(|| "never".to_owned(), |at| format!("{:.1} s", post.at - at));
        format!("{from} grants {grants:05b} ({before})")
    };
    versions.iter().map(version).collect::<Vec<String>>().join(", ")
}

fn describe(id: DeliveryId, post: &Post) -> String {
    format!("{id}, attempt {}, at webhook {}", post.attempt, post.webhook)
}
