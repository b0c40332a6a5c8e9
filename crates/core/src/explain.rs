//! Why a webhook was told of an event, or why not.
//!
//! The plan is what was decided; the facts are what was true then. When a webhook is in the plan
//! nothing needs an excuse; when it is not, every fact that speaks against it is a reason.

use std::fmt;

use crate::access::SYSTEM_ADMINISTRATOR;
use crate::filter::{Action, Filters};
use crate::outcome::DropReason;
use crate::resource::{Resource, Scope};

/// What was decided: about which resource, by which revision.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event's resource.
    pub resource: Resource,
    /// What happened to it.
    pub action: Action,
    /// The directory revision that it was decided by.
    pub revision: i64,
    /// The revision from which on the directory's history is kept; 0 for all of it.
    pub kept_from: i64,
    /// Whether it was a test, which goes to the one webhook that it was asked for.
    pub is_test: bool,
}

/// What was true of one webhook at a decision.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether the plan has it.
    pub planned: bool,
    /// What it was; `None` when it did not exist yet.
    pub webhook: Option<WebhookThen>,
    /// How its owner stood.
    pub owner: OwnerState,
    /// What gives its owner `read`, provided that they are enabled.
    pub grant: Option<Grant>,
    /// Why the delivery was dropped after the plan, in words, if it was.
    pub dropped: Option<String>,
}

impl Facts {
    /// What let the owner read, if they were.
    #[must_use]
    pub fn grant_in_force(&self) -> Option<&Grant> {
        self.grant.as_ref().filter(|_| self.owner == OwnerState::Enabled)
    }
}

/// What a webhook was at some time.
#[derive(Debug, Clone)]
pub struct WebhookThen {
    /// It was gone.
    pub deleted: bool,
    /// It got nothing for a while.
    pub paused: bool,
    /// What it asked for.
    pub filters: Filters,
}

/// How the owner of a webhook stands in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// May do what the permissions say.
    Enabled,
    /// May do nothing for now.
    Disabled,
    /// Is not in the directory, or not any more.
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

/// A way in which a user may read a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the permission is about; `None` for administrators, who need none.
    pub permission: Option<(Scope, String)>,
    /// Whose permission it is.
    pub by: By,
    /// The revision of the newest document that it rests on.
    pub since: i64,
}

/// Whose permission a grant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The user's own.
    User,
    /// That of a role of the user's, by its name.
    Role(String),
    /// That of the built-in role.
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

    /// The name of the role, if it is one's.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::User => None,
            Self::Role(name) => Some(name),
            Self::Administrator => Some(SYSTEM_ADMINISTRATOR),
        }
    }
}

/// To follow "through".
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

/// A scope and its target, as people read it.
#[must_use]
pub fn scope_text(scope: Scope, target: &str) -> String {
    match target {
        "" => scope.name().to_owned(),
        target => format!("{} {target}", scope.name()),
    }
}

/// What is asked for to read a resource, any of which suffices.
#[must_use]
pub fn asked(resource: &Resource) -> Vec<String> {
    resource.read_scopes().into_iter().map(|(scope, target)| scope_text(scope, target)).collect()
}

/// Why a webhook is not in a plan. The order is that in which they are told.
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
    /// The webhook asks for other events.
    Filter,
    /// The owner was disabled.
    OwnerDisabled,
    /// The owner was not in the directory.
    OwnerDeleted,
    /// The owner was not allowed to read the resource.
    NoAccess,
    /// Nothing that is still known speaks against it.
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

    /// The stable code; that of a dropped delivery where the reason is the same.
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
    /// All that speaks against it, in the order of [`Reason`]; none when it is in the plan.
    pub reasons: Vec<Reason>,
    /// The same in words.
    pub detail: String,
}

impl Explanation {
    /// `sent`, or the code of the first reason.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        self.reasons.first().map_or("sent", |reason| reason.code())
    }
}

/// Says why a webhook is in the plan, or gives every reason why it is not.
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
    let told = reasons.iter().map(|reason| sentence(*reason, decision, facts));
    let detail = told.collect::<Vec<_>>().join("; ");
    Explanation { reasons, detail }
}

/// Everything that is known to speak against it.
fn against(decision: &Decision, facts: &Facts) -> Vec<Reason> {
    let then = facts.webhook.as_ref();
    let is = |test: fn(&WebhookThen) -> bool| then.is_some_and(test);
    let unasked =
        |then: &WebhookThen| !then.filters.accept(decision.resource.filter(), &decision.action);
    // Of a directory that is not kept, what is found says nothing.
    let kept = decision.revision >= decision.kept_from;
    let holds = |reason: &Reason| match reason {
        Reason::TestOfAnother => decision.is_test,
        Reason::NotCreated => then.is_none(),
        Reason::WebhookDeleted => is(|then| then.deleted),
        Reason::WebhookPaused => is(|then| then.paused),
        Reason::Filter => then.is_some_and(unasked),
        Reason::OwnerDisabled => kept && facts.owner == OwnerState::Disabled,
        Reason::OwnerDeleted => kept && facts.owner == OwnerState::Deleted,
        // Nobody knows what somebody who is gone could read.
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
        "who could read as of revision {revision} is not known any more: \
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
            let wanted = facts.webhook.as_ref().map(|then| then.filters.shown().join(", "));
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
            "nothing speaks against it and yet it was not sent: the webhook was changed at that \
             very moment, or a document of revision {revision} or before came late"
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

    /// A webhook that nothing speaks against.
    fn facts(planned: bool) -> Facts {
        let filters = Filters::parse(&["reports.upload"]).unwrap();
        Facts {
            planned,
            webhook: Some(WebhookThen { deleted: false, paused: false, filters }),
            owner: OwnerState::Enabled,
            grant: Some(grant()),
            dropped: None,
        }
    }

    fn then(change: impl FnOnce(&mut WebhookThen)) -> Facts {
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
                then(|it| it.deleted = true),
                Reason::WebhookDeleted,
                "webhook was deleted when the event came",
            ),
            (
                then(|it| it.paused = true),
                Reason::WebhookPaused,
                "webhook was paused when the event came",
            ),
            (
                then(|it| it.filters = Filters::parse(&["tasks", "reports.delete"]).unwrap()),
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
                "nothing speaks against it and yet it was not sent: the webhook was changed at \
                 that very moment, or a document of revision 412 or before came late",
            ),
        ] {
            check(&facts, &[reason], detail);
        }
    }

    #[test]
    fn all_reasons_are_told_in_order() {
        let mut facts = then(|it| {
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
    fn what_is_in_the_plan_was_sent_whatever_the_facts_say() {
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
    fn a_directory_that_is_not_kept_blames_nobody() {
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
