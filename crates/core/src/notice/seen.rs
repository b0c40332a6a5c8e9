//! The conditions that a check of the installation finds.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::decide::{Finding, Seen};
use super::message::time;
use super::{Concerned, Stage, failing, secret_ends_soon};
use crate::revisions::Hold;
use crate::webhook::PauseReason;

/// From which times on conditions count.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The time after which a cause that is not seen any more is resolved. Dead letters count as arriving
    /// for as long after the last one.
    pub quiet: TimeDelta,
    /// How long a first attempt may wait.
    pub late: TimeDelta,
    /// The time of failures after which a webhook is paused.
    pub pause_after: TimeDelta,
    /// The age from which a gap in the directory's revisions counts.
    pub gap: TimeDelta,
}

/// The state of the installation at a time.
#[derive(Debug, Clone)]
pub struct Observed {
    pub at: DateTime<Utc>,
    /// Webhooks that are paused, fail or have an ending secret, and those with open causes.
    pub webhooks: Vec<WebhookState>,
    /// The dead letters since the last notice about them.
    pub letters: Letters,
    /// When the oldest job was queued that waits for a first attempt.
    pub oldest_queued: Option<DateTime<Utc>>,
    pub directory: DirectoryFacts,
}

/// The state of one webhook.
#[derive(Debug, Clone)]
pub struct WebhookState {
    pub concerned: Concerned,
    pub paused: bool,
    /// Why the service paused it; `None` if a person did.
    pub paused_reason: Option<PauseReason>,
    pub failing_since: Option<DateTime<Utc>>,
    /// When a former secret ends.
    pub secret_ends_at: Option<DateTime<Utc>>,
    pub deleted: bool,
}

/// Open dead letters.
#[derive(Debug, Clone, Default)]
pub struct Letters {
    /// When the newest one died.
    pub newest: Option<DateTime<Utc>>,
    /// From when on they are counted.
    pub since: DateTime<Utc>,
    /// Their number since then, by reason.
    pub reasons: BTreeMap<String, i64>,
    /// Whether there are more than were counted.
    pub more: bool,
}

/// The state of the directory.
#[derive(Debug, Clone, Default)]
pub struct DirectoryFacts {
    pub newest: i64,
    pub hold: Option<Hold>,
    /// The missing revisions, from the first to the last of each gap, and when it was noticed.
    pub gaps: Vec<(i64, i64, DateTime<Utc>)>,
}

/// The conditions that hold.
#[must_use]
pub fn seen(observed: Observed, limits: &Limits) -> Seen {
    let now = observed.at;
    let mut seen = Seen::default();
    for webhook in observed.webhooks {
        let by_person = webhook.paused && webhook.paused_reason.is_none();
        if webhook.deleted || by_person {
            seen.withdrawn.insert(webhook.concerned.id);
        } else {
            seen.findings.extend(of_webhook(&webhook, limits, now));
        }
    }
    seen.findings.extend(of_letters(&observed.letters, limits, now));
    let late = observed.oldest_queued.filter(|oldest| now - *oldest > limits.late);
    seen.findings
        .extend(late.map(|oldest| finding(Stage::Late, None, [("oldest", json!(time(oldest)))])));
    seen.findings.extend(of_directory(&observed.directory, limits, now));
    seen
}

fn finding<const N: usize>(
    stage: Stage,
    webhook: Option<&Concerned>,
    facts: [(&str, Value); N],
) -> Finding {
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
    Finding { stage, webhook: webhook.cloned(), facts: facts.collect() }
}

fn of_webhook(
    webhook: &WebhookState,
    limits: &Limits,
    now: DateTime<Utc>,
) -> impl Iterator<Item = Finding> + use<> {
    let concerned = Some(&webhook.concerned);
    let since = webhook.failing_since.map(|since| json!(time(since))).unwrap_or_default();
    let health = match (&webhook.paused_reason, webhook.failing_since) {
        (Some(reason), _) if webhook.paused => Some(finding(
            Stage::Paused,
            concerned,
            [("reason", json!(reason.code())), ("failingSince", since)],
        )),
        (_, Some(began)) => failing(began, limits.pause_after, now).map(|(stage, pauses_at)| {
            let facts = [("failingSince", since), ("pausesAt", json!(time(pauses_at)))];
            finding(stage, concerned, facts)
        }),
        _ => None,
    };
    let ends = webhook.secret_ends_at.filter(|until| secret_ends_soon(*until, now));
    let secret =
        ends.map(|until| finding(Stage::SecretEnding, concerned, [("endsAt", json!(time(until)))]));
    health.into_iter().chain(secret)
}

fn of_letters(letters: &Letters, limits: &Limits, now: DateTime<Utc>) -> Option<Finding> {
    letters.newest.filter(|newest| now - *newest <= limits.quiet)?;
    let count: i64 = letters.reasons.values().sum();
    let count = if letters.more { json!(format!("more than {count}")) } else { json!(count) };
    let facts = [
        ("count", count),
        ("since", json!(time(letters.since))),
        ("reasons", json!(letters.reasons)),
    ];
    Some(finding(Stage::Arriving, None, facts))
}

fn of_directory(
    directory: &DirectoryFacts,
    limits: &Limits,
    now: DateTime<Utc>,
) -> Option<Finding> {
    let newest = json!(directory.newest);
    let stage = match directory.hold {
        Some(Hold::SnapshotRefused) => Stage::SnapshotRefused,
        Some(Hold::Incomplete) => Stage::Incomplete,
        None => {
            let old = directory.gaps.iter().filter(|gap| now - gap.2 > limits.gap);
            let missing: i64 = old.map(|(first, last, _)| last - first + 1).sum();
            let facts = [("missing", json!(missing)), ("newest", newest)];
            return (missing > 0).then(|| finding(Stage::Behind, None, facts));
        }
    };
    Some(finding(stage, None, [("newest", newest)]))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::WebhookId;

    const LIMITS: Limits = Limits {
        quiet: TimeDelta::minutes(15),
        late: TimeDelta::hours(1),
        pause_after: TimeDelta::days(5),
        gap: TimeDelta::minutes(1),
    };

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap()
    }

    fn nothing() -> Observed {
        Observed {
            at: at(0),
            webhooks: Vec::new(),
            letters: Letters::default(),
            oldest_queued: None,
            directory: DirectoryFacts::default(),
        }
    }

    fn webhook() -> WebhookState {
        WebhookState {
            concerned: Concerned {
                id: WebhookId(Uuid::from_u128(7)),
                owner: "anna".to_owned(),
                host: "hooks.example".to_owned(),
            },
            paused: false,
            paused_reason: None,
            failing_since: None,
            secret_ends_at: None,
            deleted: false,
        }
    }

    fn stages(observed: Observed) -> Vec<Stage> {
        seen(observed, &LIMITS).findings.iter().map(|finding| finding.stage).collect()
    }

    fn stages_of(webhook: WebhookState) -> Vec<Stage> {
        stages(Observed { webhooks: vec![webhook], ..nothing() })
    }

    #[test]
    fn healthy_installation_has_no_conditions() {
        assert_eq!(stages(nothing()), []);
        assert_eq!(stages_of(webhook()), []);
    }

    #[test]
    fn webhook_that_a_person_paused_is_withdrawn() {
        let paused = WebhookState { paused: true, ..webhook() };
        let failing = WebhookState { failing_since: Some(at(-90)), ..paused };
        let seen = seen(Observed { webhooks: vec![failing], ..nothing() }, &LIMITS);
        assert_eq!(seen.findings, []);
        assert_eq!(seen.withdrawn.len(), 1);
    }

    #[test]
    fn webhook_that_the_service_paused_counts_as_paused_and_not_as_failing() {
        let reason = Some(PauseReason::Failing);
        let since = Some(at(-60 * 24 * 6));
        let paused =
            WebhookState { paused: true, paused_reason: reason, failing_since: since, ..webhook() };
        assert_eq!(stages_of(paused), [Stage::Paused]);
        let failing = WebhookState { failing_since: Some(at(-61)), ..webhook() };
        assert_eq!(stages_of(failing), [Stage::Failing]);
    }

    #[test]
    fn former_secret_counts_in_its_last_day_only() {
        let ends = |minute| WebhookState { secret_ends_at: Some(at(minute)), ..webhook() };
        assert_eq!(stages_of(ends(60 * 25)), []);
        assert_eq!(stages_of(ends(60 * 23)), [Stage::SecretEnding]);
        assert_eq!(stages_of(ends(-1)), []);
    }

    #[test]
    fn dead_letters_count_as_arriving_for_the_quiet_time() {
        let letters = |minute| Letters {
            newest: Some(at(minute)),
            since: at(-15),
            reasons: BTreeMap::from([("exhausted".to_owned(), 2)]),
            more: false,
        };
        let observed = |minute| Observed { letters: letters(minute), ..nothing() };
        assert_eq!(stages(observed(-14)), [Stage::Arriving]);
        assert_eq!(stages(observed(-16)), []);
        let seen = seen(observed(0), &LIMITS);
        assert_eq!(seen.findings[0].facts["count"], 2);
    }

    #[test]
    fn gap_of_the_directory_counts_when_it_does_not_fill() {
        let gap = |minute| DirectoryFacts { newest: 9, hold: None, gaps: vec![(5, 7, at(minute))] };
        assert_eq!(stages(Observed { directory: gap(0), ..nothing() }), []);
        let observed = Observed { directory: gap(-5), ..nothing() };
        let seen = seen(observed, &LIMITS);
        assert_eq!(seen.findings[0].stage, Stage::Behind);
        assert_eq!(seen.findings[0].facts["missing"], 3);
    }
}
