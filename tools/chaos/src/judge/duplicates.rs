//! POSTs of one attempt that came twice, and what explains each.

use std::collections::BTreeMap;

use super::{Case, Findings};
use crate::act::Incident;
use crate::clock::Time;
use crate::fault::Part;
use crate::sink::Post;

/// The time from the arrival of a POST to its row: five seconds for the answer, and as many for the
/// row of a worker on a busy machine.
const RECORDED_WITHIN: Time = 10.0;

/// A fault whose end was noted just before the arrival may still have its effect.
const BEFORE: Time = 0.5;

/// Servers that work again are not used again at once.
const RECOVERY: Time = 10.0;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    for (id, posts) in &case.posts {
        let mut firsts: BTreeMap<u32, &Post> = BTreeMap::new();
        for post in posts {
            let Some(first) = firsts.insert(post.attempt, post) else { continue };
            if let Some(part) = explanation(&case.evidence.incidents, first.at, post.at) {
                *findings.duplicates.entry(part).or_default() += 1;
                continue;
            }
            let after = post.at - first.at;
            let (attempt, mood) = (post.attempt, first.mood);
            let what = format!("{id}, attempt {attempt}, again after {after:.1} s: {mood:?}");
            findings.fail("a duplicate without an explanation", what);
        }
    }
}

/// What broke between a POST and its row. The likeliest of several.
pub(super) fn explanation(incidents: &[Incident], first: Time, second: Time) -> Option<Part> {
    let until = second.min(first + RECORDED_WITHIN);
    let concerns = |it: &&Incident| {
        let lasting = match it.part() {
            Some(Part::Database | Part::Broker | Part::DatabaseLink | Part::BrokerLink) => RECOVERY,
            _ => BEFORE,
        };
        it.from <= until && first <= it.to + lasting
    };
    incidents.iter().filter(concerns).filter_map(Incident::part).min()
}
