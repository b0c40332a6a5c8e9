//! Explanations: why an event was sent to a webhook, or why not.
//!
//! The plan is the decision; the facts are what was true at that time. For a webhook in the plan,
//! the explanation is the grant. For any other webhook, each fact that excludes it is a reason.

use std::fmt;

use crate::access::SYSTEM_ADMINISTRATOR;
use crate::filter::{Action, Filters};
use crate::outcome::DropReason;
use crate::resource::{Resource, Scope};

/// A routing decision: the event that it was about, and the revision that it used.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event's resource.
    pub resource: Resource,
    /// The event's action.
    pub action: Action,
    /// The directory revision that decided.
    pub revision: i64,
    /// The oldest revision of which the directory's history is kept; 0 if all of it is.
    pub kept_from: i64,
    /// Whether the event was a test, which is sent to one webhook only.
    pub is_test: bool,
}

/// The facts about one webhook at the time of a decision.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether the webhook is in the plan.
    pub planned: bool,
    /// The webhook as it was; `None` if it did not exist yet.
    pub webhook: Option<WebhookVersion>,
    /// The state of the webhook's owner.
    pub owner: OwnerState,
    /// A grant of `read` to the owner. It counts only if the owner is enabled.
    pub grant: Option<Grant>,
    /// The reason in words, if the delivery was dropped after the plan.
    pub dropped: Option<String>,
}

impl Facts {
    /// The grant that let the owner read the resource, if there was one and the owner was enabled.
    #[must_use]
    pub fn grant_in_force(&self) -> Option<&Grant> {
        self.grant.as_ref().filter(|_| self.owner == OwnerState::Enabled)
    }
}

/// A webhook as it was at some time.
#[derive(Debug, Clone)]
pub struct WebhookVersion {
    pub deleted: bool,
    pub paused: bool,
    pub filters: Filters,
}

/// The state of a webhook's owner in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// The owner's permissions count.
    Enabled,
    /// The owner's permissions don't count for now.
    Disabled,
    /// The owner is not in the directory.
    Deleted,
}

impl OwnerState {
    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }
}

/// A grant of `read` on a resource to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The permission's scope and target; `None` for administrators, who need no permission.
    pub permission: Option<(Scope, String)>,
    /// The user or role that has the permission.
    pub by: By,
    /// The revision of the newest document that the grant depends on.
    pub since: i64,
}

/// The user or role that has the permission of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The user.
    User,
    /// A role of the user, by its name.
    Role(String),
    /// The built-in role `System Administrator`.
    Administrator,
}

impl By {
    /// The kind's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role(_) => "role",
            Self::Administrator => "administrator",
        }
    }

    /// The name of the role, if a role has the permission.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::User => None,
            Self::Role(name) => Some(name),
            Self::Administrator => Some(SYSTEM_ADMINISTRATOR),
        }
    }
}

/// A phrase that follows the word "through".
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((scope, target)) = &self.permission {
            write!(f, "{} of ", scope_text(*scope, target))?;
        }
        match &self.by {
            By::User => f.write_str("their own")?,
            By::Role(name) => write!(f, "the role {name}")?,
            By::Administrator => write!(f, "the role {SYSTEM_ADMINISTRATOR}")?,
        }
        write!(f, ", since revision {}", self.since)
    }
}

/// A scope and its target as text for people.
#[must_use]
pub fn scope_text(scope: Scope, target: &str) -> String {
    match target {
        "" => scope.name().to_owned(),
        target => format!("{} {target}", scope.name()),
    }
}

/// The permissions that grant `read` on a resource, as text; each of them suffices.
#[must_use]
pub fn asked(resource: &Resource) -> Vec<String> {
    resource.read_scopes().into_iter().map(|(scope, target)| scope_text(scope, target)).collect()
}

/// Why a webhook is not in a plan. Reasons are listed in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The event was a test of another webhook.
    TestOfAnother,
    /// The webhook did not exist yet.
    NotCreated,
    /// The webhook was gone.
    WebhookDeleted,
    /// The webhook was paused.
    WebhookPaused,
    /// The webhook's filters don't match the event.
    Filter,
    /// The owner was disabled.
    OwnerDisabled,
    /// The owner was not in the directory.
    OwnerDeleted,
    /// The owner was not allowed to read the resource.
    NoAccess,
    /// No fact that is still known excludes the webhook.
    Unknown,
}

impl Reason {
    /// All reasons, in their order.
    pub const ALL: [Self; 9] = [
        Self::TestOfAnother,
        Self::NotCreated,
        Self::WebhookDeleted,
        Self::WebhookPaused,
        Self::Filter,
        Self::OwnerDisabled,
        Self::OwnerDeleted,
        Self::NoAccess,
        Self::Unknown,
    ];

    /// The stable code. Reasons for which a delivery can also be dropped have the same code there.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TestOfAnother => "test-of-another",
            Self::NotCreated => "not-created",
            Self::WebhookDeleted => DropReason::WebhookDeleted.code(),
            Self::WebhookPaused => DropReason::WebhookPaused.code(),
            Self::Filter => "filter",
            Self::OwnerDisabled => DropReason::OwnerDisabled.code(),
            Self::OwnerDeleted => DropReason::OwnerDeleted.code(),
            Self::NoAccess => "no-access",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a webhook is in a plan, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// All reasons against the webhook, in the order of [`Reason`]; empty if it is in the plan.
    pub reasons: Vec<Reason>,
    /// The reasons in words.
    pub detail: String,
}

impl Explanation {
    /// `sent`, or the code of the first reason.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        self.reasons.first().map_or("sent", |reason| reason.code())
    }
}

/// Explains why a webhook is in the plan, or gives every reason why it is not.
#[must_use]
pub fn explain(decision: &Decision, facts: &Facts) -> Explanation {
    if facts.planned {
        let mut detail = sent(decision, facts);
        if let Some(dropped) = &facts.dropped {
            detail.push_str("; dropped afterwards: ");
            detail.push_str(dropped);
        }
        return Explanation { reasons: Vec::new(), detail };
    }
    let mut reasons = against(decision, facts);
    if reasons.is_empty() {
        reasons.push(Reason::Unknown);
    }
    let sentences = reasons.iter().map(|reason| sentence(*reason, decision, facts));
    let detail = sentences.collect::<Vec<_>>().join("; ");
    Explanation { reasons, detail }
}

/// The known reasons against the webhook.
fn against(decision: &Decision, facts: &Facts) -> Vec<Reason> {
    let webhook = facts.webhook.as_ref();
    let is = |test: fn(&WebhookVersion) -> bool| webhook.is_some_and(test);
    let is_filtered_out = |webhook: &WebhookVersion| {
        !webhook.filters.accept(decision.resource.filter(), &decision.action)
    };
    // The directory's history before `kept_from` is incomplete, so it proves nothing.
    let kept = decision.revision >= decision.kept_from;
    let holds = |reason: &Reason| match reason {
        Reason::TestOfAnother => decision.is_test,
        Reason::NotCreated => webhook.is_none(),
        Reason::WebhookDeleted => is(|webhook| webhook.deleted),
        Reason::WebhookPaused => is(|webhook| webhook.paused),
        Reason::Filter => webhook.is_some_and(is_filtered_out),
        Reason::OwnerDisabled => kept && facts.owner == OwnerState::Disabled,
        Reason::OwnerDeleted => kept && facts.owner == OwnerState::Deleted,
        // The permissions of a deleted owner are unknown.
        Reason::NoAccess => kept && facts.owner != OwnerState::Deleted && facts.grant.is_none(),
        Reason::Unknown => false,
    };
    Reason::ALL.into_iter().filter(holds).collect()
}

fn sent(decision: &Decision, facts: &Facts) -> String {
    match facts.grant_in_force() {
        Some(grant) => format!("owner may read through {grant}"),
        None if decision.revision < decision.kept_from => not_kept(decision),
        None => {
            format!("owner could read as of revision {} when it was decided", decision.revision)
        }
    }
}

fn not_kept(decision: &Decision) -> String {
    let Decision { revision, kept_from, .. } = decision;
    format!(
        "it is unknown who could read as of revision {revision}: \
         the directory's history is kept from revision {kept_from} on"
    )
}

fn sentence(reason: Reason, decision: &Decision, facts: &Facts) -> String {
    let revision = decision.revision;
    match reason {
        Reason::TestOfAnother => "event was a test of another webhook".to_owned(),
        Reason::NotCreated => "webhook did not exist yet when the event came".to_owned(),
        Reason::WebhookDeleted => "webhook was deleted when the event came".to_owned(),
        Reason::WebhookPaused => "webhook was paused when the event came".to_owned(),
        Reason::Filter => {
            let wanted = facts.webhook.as_ref().map(|webhook| webhook.filters.shown().join(", "));
            let (filter, action) = (decision.resource.filter(), decision.action.as_str());
            format!("webhook asked for {}, not {filter}.{action}", wanted.unwrap_or_default())
        }
        Reason::OwnerDisabled => format!("owner was disabled as of revision {revision}"),
        Reason::OwnerDeleted => format!("owner was not in the directory as of revision {revision}"),
        Reason::NoAccess => {
            let asked = asked(&decision.resource).join(", ");
            format!("owner lacks read: none of {asked} as of revision {revision}")
        }
        Reason::Unknown if revision < decision.kept_from => not_kept(decision),
        Reason::Unknown => format!(
            "no reason is known: the webhook was changed at the moment of the decision, or a \
             document of revision {revision} or before arrived late"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        Decision {
            resource: Resource::parse("categories/c1/reports/r1").unwrap(),
            action: Action::parse("Upload").unwrap(),
            revision: 412,
            kept_from: 0,
            is_test: false,
        }
    }

    fn grant() -> Grant {
        Grant {
            permission: Some((Scope::Report, "r1".to_owned())),
            by: By::Role("Reader".to_owned()),
            since: 7,
        }
    }

    /// Facts without any reason against the webhook.
    fn facts(planned: bool) -> Facts {
        let filters = Filters::parse(&["reports.upload"]).unwrap();
        Facts {
            planned,
            webhook: Some(WebhookVersion { deleted: false, paused: false, filters }),
            owner: OwnerState::Enabled,
            grant: Some(grant()),
            dropped: None,
        }
    }

    fn with_webhook(change: impl FnOnce(&mut WebhookVersion)) -> Facts {
        let mut facts = facts(false);
        change(facts.webhook.as_mut().unwrap());
        facts
    }

    #[track_caller]
    fn check(facts: &Facts, reasons: &[Reason], detail: &str) {
        let explanation = explain(&decision(), facts);
        assert_eq!(explanation.reasons, reasons);
        assert_eq!(explanation.detail, detail);
        assert_eq!(explanation.verdict(), reasons[0].code());
    }

    #[test]
    fn each_reason_alone_is_the_verdict() {
        let changed = |change: fn(&mut Facts)| {
            let mut facts = facts(false);
            change(&mut facts);
            facts
        };
        for (facts, reason, detail) in [
            (
                changed(|it| it.webhook = None),
                Reason::NotCreated,
                "webhook did not exist yet when the event came",
            ),
            (
                with_webhook(|it| it.deleted = true),
                Reason::WebhookDeleted,
                "webhook was deleted when the event came",
            ),
            (
                with_webhook(|it| it.paused = true),
                Reason::WebhookPaused,
                "webhook was paused when the event came",
            ),
            (
                with_webhook(|it| {
                    it.filters = Filters::parse(&["tasks", "reports.delete"]).unwrap();
                }),
                Reason::Filter,
                "webhook asked for tasks, reports.delete, not reports.Upload",
            ),
            (
                changed(|it| it.owner = OwnerState::Disabled),
                Reason::OwnerDisabled,
                "owner was disabled as of revision 412",
            ),
            (
                changed(|it| (it.owner, it.grant) = (OwnerState::Deleted, None)),
                Reason::OwnerDeleted,
                "owner was not in the directory as of revision 412",
            ),
            (
                changed(|it| it.grant = None),
                Reason::NoAccess,
                "owner lacks read: none of any-report, report r1, reports-in-category c1 \
                 as of revision 412",
            ),
            (
                changed(|_| ()),
                Reason::Unknown,
                "no reason is known: the webhook was changed at the moment of the decision, or a \
                 document of revision 412 or before arrived late",
            ),
        ] {
            check(&facts, &[reason], detail);
        }
    }

    #[test]
    fn all_reasons_are_listed_in_order() {
        let mut facts = with_webhook(|it| {
            it.paused = true;
            it.filters = Filters::parse(&["alerts"]).unwrap();
        });
        (facts.owner, facts.grant) = (OwnerState::Disabled, None);
        let expected =
            [Reason::WebhookPaused, Reason::Filter, Reason::OwnerDisabled, Reason::NoAccess];
        let explanation = explain(&decision(), &facts);
        assert_eq!(explanation.reasons, expected);
        assert_eq!(explanation.detail.split("; ").count(), 4, "{}", explanation.detail);
    }

    #[test]
    fn a_planned_webhook_has_the_verdict_sent_whatever_the_facts() {
        let explanation = explain(&decision(), &facts(true));
        assert_eq!(explanation.verdict(), "sent");
        assert_eq!(
            explanation.detail,
            "owner may read through report r1 of the role Reader, since revision 7"
        );
        let mut facts = facts(true);
        facts.dropped = Some("the webhook was paused".to_owned());
        let detail = explain(&decision(), &facts).detail;
        assert!(detail.ends_with("revision 7; dropped afterwards: the webhook was paused"));
        (facts.webhook, facts.owner) = (None, OwnerState::Disabled);
        let explanation = explain(&decision(), &facts);
        assert_eq!((explanation.verdict(), explanation.reasons.len()), ("sent", 0));
    }

    #[test]
    fn a_revision_before_the_kept_history_gives_the_reason_unknown() {
        let decision = Decision { kept_from: 413, ..decision() };
        let mut facts = facts(false);
        (facts.owner, facts.grant) = (OwnerState::Deleted, None);
        let explanation = explain(&decision, &facts);
        assert_eq!(explanation.reasons, [Reason::Unknown]);
        assert!(explanation.detail.contains("kept from revision 413"), "{}", explanation.detail);
        facts.webhook = None;
        assert_eq!(explain(&decision, &facts).reasons, [Reason::NotCreated]);
    }

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|it| it.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
