//! Which notices there are to send, and which causes are resolved.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{About, Concerned, Stage};
use crate::ids::WebhookId;

/// An open cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub id: Uuid,
    pub about: About,
    pub webhook: Option<WebhookId>,
    /// The worst stage that it has reached.
    pub worst: Stage,
    /// When its last notice was made.
    pub noticed_at: DateTime<Utc>,
    /// Since when it is not seen any more; `None` while it is.
    pub absent_since: Option<DateTime<Utc>>,
}

/// A condition that holds now.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub stage: Stage,
    pub webhook: Option<Concerned>,
    /// Further facts, by stable names.
    pub facts: Map<String, Value>,
}

/// What was seen in one look.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The conditions that hold; at most one of each cause.
    pub findings: Vec<Finding>,
    /// Webhooks that were deleted, or paused by a person: their causes are resolved without a notice.
    pub withdrawn: HashSet<WebhookId>,
}

/// A change of the causes.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A cause is new, and has a notice.
    Open(Finding),
    /// An open cause has another notice, because it is at a worse stage or has new facts.
    Update { cause: Uuid, finding: Finding, is_worse: bool },
    /// An open cause is seen again.
    Present(Uuid),
    /// An open cause is not seen any more.
    Absent(Uuid),
    /// An open cause is resolved; `notice` says whether there is a notice of that.
    Resolve { cause: Uuid, notice: bool },
}

type Key = (About, Option<WebhookId>);

/// Compares the open causes with what was seen. `quiet` is the time after which a cause that is not
/// seen any more is resolved.
#[must_use]
pub fn decide(open: &[Open], seen: Seen, quiet: TimeDelta, now: DateTime<Utc>) -> Vec<Step> {
    let mut by_key: HashMap<Key, &Open> =
        open.iter().map(|it| ((it.about, it.webhook), it)).collect();
    let mut steps = Vec::new();
    for finding in seen.findings {
        let key = (finding.stage.about(), finding.webhook.as_ref().map(|webhook| webhook.id));
        match by_key.remove(&key) {
            None => steps.push(Step::Open(finding)),
            Some(open) => {
                if open.absent_since.is_some() {
                    steps.push(Step::Present(open.id));
                }
                let is_worse = finding.stage > open.worst;
                if is_worse || is_due_again(open, now) {
                    steps.push(Step::Update { cause: open.id, finding, is_worse });
                }
            }
        }
    }
    // In the order of the list, so that the result does not depend on hashes.
    let absent = open.iter().filter(|it| by_key.contains_key(&(it.about, it.webhook)));
    steps.extend(absent.filter_map(|open| not_seen(open, &seen.withdrawn, quiet, now)));
    steps
}

fn is_due_again(open: &Open, now: DateTime<Utc>) -> bool {
    open.about.repeats_after().is_some_and(|after| now - open.noticed_at >= after)
}

fn not_seen(
    open: &Open,
    withdrawn: &HashSet<WebhookId>,
    quiet: TimeDelta,
    now: DateTime<Utc>,
) -> Option<Step> {
    let cause = open.id;
    if open.webhook.is_some_and(|webhook| withdrawn.contains(&webhook)) {
        return Some(Step::Resolve { cause, notice: false });
    }
    match open.absent_since {
        None => Some(Step::Absent(cause)),
        Some(since) if now - since >= quiet => {
            Some(Step::Resolve { cause, notice: open.about.has_resolved_notice() })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The causes as the database would keep them, and the notices that were sent.
    #[derive(Default)]
    struct World {
        open: Vec<Open>,
        sent: Vec<(i64, &'static str)>,
        next: u128,
    }

    const QUIET: i64 = 15;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap()
    }

    fn finding(stage: Stage) -> Finding {
        let webhook = Concerned {
            id: WebhookId(Uuid::from_u128(7)),
            owner: "anna".to_owned(),
            host: "hooks.example".to_owned(),
        };
        let webhook = (stage.about() == About::Webhook).then_some(webhook);
        Finding { stage, webhook, facts: Map::new() }
    }

    impl World {
        fn look(&mut self, minute: i64, stages: &[Stage], withdrawn: bool) {
            let withdrawn =
                withdrawn.then_some(WebhookId(Uuid::from_u128(7))).into_iter().collect();
            let findings = stages.iter().copied().map(finding).collect();
            let now = at(minute);
            for step in
                decide(&self.open, Seen { findings, withdrawn }, TimeDelta::minutes(QUIET), now)
            {
                self.apply(step, minute);
            }
        }

        fn apply(&mut self, step: Step, minute: i64) {
            let now = at(minute);
            match step {
                Step::Open(finding) => {
                    self.next += 1;
                    self.sent.push((minute, finding.stage.code()));
                    self.open.push(Open {
                        id: Uuid::from_u128(self.next),
                        about: finding.stage.about(),
                        webhook: finding.webhook.map(|webhook| webhook.id),
                        worst: finding.stage,
                        noticed_at: now,
                        absent_since: None,
                    });
                }
                Step::Update { cause, finding, .. } => {
                    self.sent.push((minute, finding.stage.code()));
                    let open = self.find(cause);
                    (open.worst, open.noticed_at) = (finding.stage.max(open.worst), now);
                }
                Step::Present(id) => self.find(id).absent_since = None,
                Step::Absent(id) => self.find(id).absent_since = Some(now),
                Step::Resolve { cause, notice } => {
                    if notice {
                        self.sent.push((minute, "resolved"));
                    }
                    self.open.retain(|open| open.id != cause);
                }
            }
        }

        fn find(&mut self, id: Uuid) -> &mut Open {
            self.open.iter_mut().find(|open| open.id == id).unwrap()
        }
    }

    #[test]
    fn open_cause_has_one_notice_for_each_stage_and_one_when_it_is_resolved() {
        let mut world = World::default();
        for minute in 0..10 {
            world.look(minute, &[Stage::Failing], false);
        }
        for minute in 10..20 {
            world.look(minute, &[Stage::Paused], false);
        }
        for minute in 20..60 {
            world.look(minute, &[], false);
        }
        let expected = [(0, "webhook.failing"), (10, "webhook.paused"), (35, "resolved")];
        assert_eq!(world.sent, expected);
        assert_eq!(world.open, []);
    }

    #[test]
    fn webhook_that_is_deleted_or_paused_by_its_owner_is_resolved_without_a_notice() {
        let mut world = World::default();
        world.look(0, &[Stage::Paused], false);
        world.look(1, &[], true);
        assert_eq!(world.sent, [(0, "webhook.paused")]);
        assert_eq!(world.open, []);
    }

    #[test]
    fn dead_letters_that_keep_arriving_have_one_notice_a_day() {
        let mut world = World::default();
        for minute in 0..3000 {
            world.look(minute, &[Stage::Arriving], false);
        }
        let sent: Vec<i64> = world.sent.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(sent, [0, 1440, 2880]);
    }

    proptest! {
        /// However a condition comes and goes: its opening and its resolution have notices in turn, and the
        /// resolution comes a whole quiet time after the opening.
        #[test]
        fn condition_that_comes_and_goes_has_not_a_notice_each_time(
            holds in proptest::collection::vec(any::<bool>(), 1..400),
        ) {
            let mut world = World::default();
            for (minute, holds) in (0..).zip(&holds) {
                let stages = [Stage::Late];
                world.look(minute, if *holds { &stages } else { &[] }, false);
            }
            for pair in world.sent.windows(2) {
                let [(before, a), (after, b)] = pair else { unreachable!() };
                prop_assert_ne!(a, b);
                if *b == "resolved" {
                    prop_assert!(after - before > QUIET);
                }
            }
            prop_assert!(i64::try_from(world.sent.len()).unwrap() <= 2 + 2 * 400 / QUIET);
            prop_assert_eq!(world.sent.is_empty(), !holds.contains(&true));
        }

        /// Stages only rise while a cause is open.
        #[test]
        fn stage_has_at_most_one_notice_while_its_cause_is_open(
            stages in proptest::collection::vec(0_usize..4, 1..200),
        ) {
            let mut world = World::default();
            for (minute, stage) in (0..).zip(&stages) {
                world.look(minute, &[Stage::ALL[*stage]], false);
            }
            let sent: Vec<&str> = world.sent.iter().map(|(_, code)| *code).collect();
            let unique: HashSet<&str> = sent.iter().copied().collect();
            prop_assert_eq!(sent.len(), unique.len());
            let worst = stages.iter().max().unwrap();
            prop_assert_eq!(sent.last().copied(), Some(Stage::ALL[*worst].code()));
        }
    }
}
