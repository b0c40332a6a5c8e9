//! Compares what was promised with what came: pure functions of the evidence.
//!
//! [`plans`] compares the plans with the reference, [`outcomes`] the deliveries with what arrived,
//! [`posts`] what arrived with who may read it, and [`duplicates`] explains what arrived twice.

mod duplicates;
mod outcomes;
mod plans;
mod posts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};

use crate::act::Incident;
use crate::clock::Time;
use crate::fault::Part;
use crate::ledger::Ledger;
use crate::publisher::{Event, Published};
use crate::sink::Post;
use crate::world::{Webhook, owner_of};

/// All that is known at the end of a run.
pub(crate) struct Evidence {
    pub(crate) published: Published,
    pub(crate) ledger: Ledger,
    pub(crate) posts: Vec<Post>,
    /// Deliveries with a dead letter.
    pub(crate) letters: HashSet<(BatchKey, WebhookId)>,
    /// The reasons of refused events.
    pub(crate) refused: Vec<String>,
    pub(crate) incidents: Vec<Incident>,
    /// Faults that were not possible at their time.
    pub(crate) skipped: usize,
    /// The id of each webhook, by its number.
    pub(crate) webhooks: Vec<WebhookId>,
    /// What the processes, the servers and the receivers found themselves.
    pub(crate) failures: Vec<String>,
}

/// What the comparison found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By kind; none if the run passed.
    pub(crate) failures: BTreeMap<&'static str, Vec<String>>,
    /// Deliveries by state and reason.
    pub(crate) outcomes: BTreeMap<String, usize>,
    /// POSTs that came twice, by what explains them.
    pub(crate) duplicates: BTreeMap<Part, usize>,
}

impl Findings {
    pub(crate) fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    fn fail(&mut self, kind: &'static str, what: String) {
        self.failures.entry(kind).or_default().push(what);
    }
}

/// A delivery that the ledger planned.
struct Delivery {
    batch: BatchKey,
    webhook: Webhook,
    /// The numbers of its events.
    events: BTreeSet<usize>,
}

/// The evidence with what is looked up again and again.
struct Case<'a> {
    evidence: &'a Evidence,
    deliveries: HashMap<DeliveryId, Delivery>,
    /// The POSTs of each delivery, in the order in which they came.
    posts: HashMap<DeliveryId, Vec<&'a Post>>,
}

/// Compares.
pub(crate) fn judge(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for failure in &evidence.failures {
        findings.fail("processes, servers and receivers", failure.clone());
    }
    for reason in &evidence.refused {
        findings.fail("a valid event was refused", reason.clone());
    }
    let case = Case::new(evidence);
    plans::check(&case, &mut findings);
    outcomes::check(&case, &mut findings);
    posts::check(&case, &mut findings);
    duplicates::check(&case, &mut findings);
    findings
}

impl<'a> Case<'a> {
    fn new(evidence: &'a Evidence) -> Self {
        let numbers: HashMap<WebhookId, Webhook> =
            evidence.webhooks.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let mut deliveries = HashMap::new();
        for (number, event) in evidence.published.events.iter().enumerate() {
            let Some(stored) = evidence.ledger.event(number) else { continue };
            for id in &stored.webhooks {
                let Some(webhook) = numbers.get(id) else { continue };
                let delivery =
                    deliveries.entry(DeliveryId::of(event.batch, *id)).or_insert_with(|| {
                        Delivery { batch: event.batch, webhook: *webhook, events: BTreeSet::new() }
                    });
                delivery.events.insert(number);
            }
        }
        let mut posts: HashMap<DeliveryId, Vec<&Post>> = HashMap::new();
        for post in &evidence.posts {
            posts.entry(post.id).or_default().push(post);
        }
        Self { evidence, deliveries, posts }
    }

    fn event(&self, number: usize) -> &'a Event {
        &self.evidence.published.events[number]
    }

    fn webhook_id(&self, webhook: Webhook) -> WebhookId {
        self.evidence.webhooks[webhook]
    }

    /// Whether the owner of a webhook may read what an event is about, as of a revision.
    fn may_read(&self, webhook: Webhook, number: usize, revision: i64) -> bool {
        let resource = self.event(number).resource;
        self.evidence.published.directory.may_read(owner_of(webhook), resource, revision)
    }

    /// The revision that an event asked to be judged by, or else the one that it was judged by.
    fn planned_by(&self, number: usize) -> Option<i64> {
        let decided = self.evidence.ledger.event(number)?.decided_revision;
        Some(self.event(number).revision.unwrap_or(decided))
    }

    /// The revisions by which the access of a webhook's owner may have been planned: more than one
    /// if the event asked for none. It is then judged by what had come, and a document may come
    /// after one with a higher revision.
    fn plan_revisions(&self, webhook: Webhook, number: usize) -> Vec<i64> {
        let Some(stored) = self.evidence.ledger.event(number) else { return Vec::new() };
        if let Some(revision) = self.event(number).revision {
            return vec![revision];
        }
        let had_come = |from| self.had_come(from, stored.received_at - UNCOMMITTED);
        self.versions_from(webhook, |from| from <= stored.decided_revision, had_come)
    }

    /// The revisions by which a later attempt may have been decided. Its row has the newest revision
    /// that the directory had when it was asked, or one from just before. What came before that one
    /// was known; what came later, be it older or newer, may have been.
    fn verdict_revisions(&self, post: &Post, revision: i64) -> Vec<i64> {
        let known_at = self.evidence.ledger.applied.get(&revision).copied().unwrap_or_default();
        let may_have_come = |from| self.had_come(from, post.at);
        self.versions_from(post.webhook, may_have_come, |from| self.had_come(from, known_at))
    }

    /// Whether the directory had a revision at a time.
    fn had_come(&self, revision: i64, at: Time) -> bool {
        self.evidence.ledger.applied.get(&revision).is_some_and(|applied| *applied <= at)
    }

    /// The newest version of a webhook's owner that had come, and those after it that may have.
    fn versions_from(
        &self,
        webhook: Webhook,
        may_have_come: impl Fn(i64) -> bool,
        had_come: impl Fn(i64) -> bool,
    ) -> Vec<i64> {
        let versions = self.evidence.published.directory.versions(owner_of(webhook));
        let mut revisions: Vec<i64> = versions.iter().map(|(from, _)| *from).collect();
        let newest = revisions.iter().rposition(|from| may_have_come(*from) && had_come(*from));
        // The first version is in the snapshot, without which nothing is judged.
        let mut known = revisions.split_off(newest.unwrap_or(0));
        let first = known.first().copied();
        known.retain(|from| Some(*from) == first || may_have_come(*from));
        known
    }
}

/// A document counts from its commit, which may be this many seconds after the time that it has: its
/// router may have been stopped in between.
const UNCOMMITTED: Time = 60.0;
