//! Why a webhook was told of an event, or why not, in JSON; and what gives somebody access.

use fanfare_core::explain::{Grant, Reason, asked};
use fanfare_core::resource::Scope;
use fanfare_store::explain::{Explained, WebhookExplained};
use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;

/// A webhook's verdict on an event.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
pub struct Json<'a> {
    /// The event's id, where several are explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// The webhook's id.
    webhook: String,
    /// Its owner at the decision.
    owner: &'a str,
    /// `sent`, or the first of the reasons.
    verdict: &'static str,
    /// All that spoke against it.
    reasons: Vec<&'static str>,
    /// The same in words.
    detail: &'a str,
    /// The delivery's id, if it was to be sent.
    delivery: Option<String>,
    /// Where the delivery stands.
    state: Option<&'static str>,
    /// Why the delivery was dropped or is dead.
    reason: Option<&'a str>,
    /// Until when the delivery waits because its receiver asked for that; left out when it does not.
    #[serde(rename = "heldUntil", skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// The directory revision that it was decided by.
    revision: i64,
    /// The permissions of which one suffices.
    scopes: Vec<String>,
    /// The one that the owner had.
    #[schema(inline)]
    grant: Option<GrantJson<'a>>,
}

/// What lets somebody read a resource.
#[derive(Serialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantJson<'a> {
    /// What the permission is about.
    scope: Option<&'static str>,
    /// Which one, where the scope has a target.
    target: Option<&'a str>,
    /// `user`, `role` or `administrator`.
    by: &'static str,
    /// The role's name.
    role: Option<&'a str>,
    /// The directory revision since which it holds.
    since: i64,
}

/// A verdict in JSON; `event` where several are explained.
#[must_use]
pub fn json<'a>(
    event: Option<&'a str>,
    explained: &'a Explained,
    one: &'a WebhookExplained,
) -> Json<'a> {
    let explanation = &one.explanation;
    let delivery = one.delivery.as_ref();
    Json {
        event,
        webhook: one.webhook.to_string(),
        owner: &one.owner,
        verdict: explanation.verdict(),
        reasons: explanation.reasons.iter().copied().map(Reason::code).collect(),
        detail: &explanation.detail,
        delivery: delivery.map(|sent| sent.id.to_string()),
        state: delivery.map(|sent| sent.state.name()),
        reason: delivery.and_then(|sent| sent.reason.as_deref()),
        held_until: delivery.and_then(|sent| sent.held_until).map(rfc3339),
        revision: explained.decision.revision,
        scopes: asked(&explained.decision.resource),
        grant: one.grant.as_ref().map(grant_json),
    }
}

/// The same for an owner who may not see everything: what they could not read is not named.
pub(crate) fn json_for_owner<'a>(explained: &'a Explained, one: &'a WebhookExplained) -> Json<'a> {
    let full = json(None, explained, one);
    if one.grant.is_some() || one.delivery.is_some() {
        return full;
    }
    let detail = if one.explanation.reasons.contains(&Reason::NoAccess) {
        "owner lacks read on what the event is about"
    } else {
        "owner got nothing of it"
    };
    Json { detail, scopes: Vec::new(), ..full }
}

/// A grant in JSON: without scope and target for administrators, without target for `any-…`.
#[must_use]
pub fn grant_json(grant: &Grant) -> GrantJson<'_> {
    let (scope, target) = match &grant.permission {
        Some((scope, target)) => (Some(*scope), Some(target.as_str())),
        None => (None, None),
    };
    GrantJson {
        scope: scope.map(Scope::name),
        target: target.filter(|target| !target.is_empty()),
        by: grant.by.name(),
        role: grant.by.role(),
        since: grant.since,
    }
}
