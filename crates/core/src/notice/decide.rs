//! Which notices are told, and which causes are over.

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
    /// The worst stage that was told.
    pub told: Stage,
    /// When it was told last.
    pub told_at: DateTime<Utc>,
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
    /// Webhooks that were deleted, or paused by a person: they do not recover.
    pub closed: HashSet<WebhookId>,
}

/// A change of the causes.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A cause begins, and is told.
    Begin(Finding),
    /// An open cause is told again, because it is at a worse stage or has new facts.
    Tell { cause: Uuid, finding: Finding, is_worse: bool },
    /// An open cause is seen again.
    Present(Uuid),
    /// An open cause is not seen any more.
    Absent(Uuid),
    /// An open cause is over; `told` says whether that is told.
    End { cause: Uuid, told: bool },
}

type Key = (About, Option<WebhookId>);

/// Compares the open causes with what was seen. `quiet` is the time after which a cause that is not
/// seen any more is over.
#[must_use]
pub fn decide(open: &[Open], seen: Seen, quiet: TimeDelta, now: DateTime<Utc>) -> Vec<Step> {
    let mut by_key: HashMap<Key, &Open> =
        open.iter().map(|it| ((it.about, it.webhook), it)).collect();
    let mut steps = Vec::new();
    for finding in seen.findings {
        let key = (finding.stage.about(), finding.webhook.as_ref().map(|webhook| webhook.id));
        match by_key.remove(&key) {
            None => steps.push(Step::Begin(finding)),
            Some(open) => {
                if open.absent_since.is_some() {
                    steps.push(Step::Present(open.id));
                }
                let is_worse = finding.stage > open.told;
                if is_worse || is_due_again(open, now) {
                    steps.push(Step::Tell { cause: open.id, finding, is_worse });
                }
            }
        }
    }
    // In the order of the list, so that the result does not depend on hashes.
    let absent = open.iter().filter(|it| by_key.contains_key(&(it.about, it.webhook)));
    steps.extend(absent.filter_map(|open| not_seen(open, &seen.closed, quiet, now)));
    steps
}

fn is_due_again(open: &Open, now: DateTime<Utc>) -> bool {
    open.about.repeats_after().is_some_and(|after| now - open.told_at >= after)
}

fn not_seen(
    open: &Open,
    closed: &HashSet<WebhookId>,
    quiet: TimeDelta,
    now: DateTime<Utc>,
) -> Option<Step> {
    let cause = open.id;
    if open.webhook.is_some_and(|webhook| closed.contains(&webhook)) {
        return Some(Step::End { cause, told: false });
    }
    match open.absent_since {
        None => Some(Step::Absent(cause)),
        Some(since) if now - since >= quiet => {
            Some(Step::End { cause, told: open.about.tells_end() })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The causes as the database would keep them, and the notices that were told.
    #[derive(Default)]
    struct World {
        open: Vec<Open>,
        told: Vec<(i64, &'static str)>,
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
        fn look(&mut self, minute: i64, stages: &[Stage], closed: bool) {
            let closed = closed.then_some(WebhookId(Uuid::from_u128(7))).into_iter().collect();
            let findings = stages.iter().copied().map(finding).collect();
            let now = at(minute);
            for step in
                decide(&self.open, Seen { findings, closed }, TimeDelta::minutes(QUIET), now)
            {
                self.apply(step, minute);
            }
        }

        fn apply(&mut self, step: Step, minute: i64) {
            let now = at(minute);
            match step {
                Step::Begin(finding) => {
                    self.next += 1;
                    self.told.push((minute, finding.stage.code()));
                    self.open.push(Open {
                        id: Uuid::from_u128(self.next),
                        about: finding.stage.about(),
                        webhook: finding.webhook.map(|webhook| webhook.id),
                        told: finding.stage,
                        told_at: now,
                        absent_since: None,
                    });
                }
                Step::Tell { cause, finding, .. } => {
                    self.told.push((minute, finding.stage.code()));
                    let open = self.find(cause);
                    (open.told, open.told_at) = (finding.stage.max(open.told), now);
                }
                Step::Present(id) => self.find(id).absent_since = None,
                Step::Absent(id) => self.find(id).absent_since = Some(now),
                Step::End { cause, told } => {
                    if told {
                        self.told.push((minute, "over"));
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
    fn cause_that_lasts_is_told_once_for_each_stage_and_once_when_it_is_over() {
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
        let expected = [(0, "webhook.failing"), (10, "webhook.paused"), (35, "over")];
        assert_eq!(world.told, expected);
        assert_eq!(world.open, []);
    }

    #[test]
    fn webhook_that_is_deleted_or_paused_by_its_owner_does_not_recover() {
        let mut world = World::default();
        world.look(0, &[Stage::Paused], false);
        world.look(1, &[], true);
        assert_eq!(world.told, [(0, "webhook.paused")]);
        assert_eq!(world.open, []);
    }

    #[test]
    fn dead_letters_that_keep_arriving_are_told_once_a_day() {
        let mut world = World::default();
        for minute in 0..3000 {
            world.look(minute, &[Stage::Arriving], false);
        }
        let told: Vec<i64> = world.told.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(told, [0, 1440, 2880]);
    }

    proptest! {
        /// However a condition comes and goes: its beginning and its end are told in turn, and a
        /// beginning follows an end by more than nothing only after a whole quiet time.
        #[test]
        fn condition_that_comes_and_goes_is_not_told_each_time(
            holds in proptest::collection::vec(any::<bool>(), 1..400),
        ) {
            let mut world = World::default();
            for (minute, holds) in (0..).zip(&holds) {
                let stages = [Stage::Late];
                world.look(minute, if *holds { &stages } else { &[] }, false);
            }
            for pair in world.told.windows(2) {
                let [(before, a), (after, b)] = pair else { unreachable!() };
                prop_assert_ne!(a, b);
                if *b == "over" {
                    prop_assert!(after - before > QUIET);
                }
            }
            prop_assert!(i64::try_from(world.told.len()).unwrap() <= 2 + 2 * 400 / QUIET);
            prop_assert_eq!(world.told.is_empty(), !holds.contains(&true));
        }

        /// Stages only rise while a cause is open.
        #[test]
        fn stage_is_told_at_most_once_while_its_cause_lasts(
            stages in proptest::collection::vec(0_usize..4, 1..200),
        ) {
            let mut world = World::default();
            for (minute, stage) in (0..).zip(&stages) {
                world.look(minute, &[Stage::ALL[*stage]], false);
            }
            let told: Vec<&str> = world.told.iter().map(|(_, code)| *code).collect();
            let unique: HashSet<&str> = told.iter().copied().collect();
            prop_assert_eq!(told.len(), unique.len());
            let worst = stages.iter().max().unwrap();
            prop_assert_eq!(told.last().copied(), Some(Stage::ALL[*worst].code()));
        }
    }
}
