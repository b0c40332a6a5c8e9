//! The JSON forms of an explanation: why a webhook got an event or did not, and which permission
//! gives a user access.

use fanfare_core::explain::{Grant, Reason, asked};
use fanfare_core::resource::Scope;
use fanfare_store::explain::{Explained, WebhookExplained};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Actor;
use crate::clock::rfc3339;
use crate::events::may_know;

/// A webhook's verdict on an event.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
pub struct Json<'a> {
    /// The event's id, when several events are explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// The webhook's id.
    webhook: String,
    /// The webhook's owner at the time of the decision.
    owner: &'a str,
    /// `sent`, or the first of `reasons`.
    verdict: &'static str,
    /// All reasons against sending the event.
    reasons: Vec<&'static str>,
    /// The verdict in words.
    detail: &'a str,
    /// The delivery's id, if the event was to be sent.
    delivery: Option<String>,
    /// The delivery's state.
    state: Option<&'static str>,
    /// The stable code of why the delivery was dropped or is dead.
    reason: Option<&'a str>,
    /// The time until which the delivery waits because its receiver asked for that; absent when it
    /// does not wait.
    #[serde(rename = "heldUntil", skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// The directory revision of the decision.
    revision: i64,
    /// The permissions that give access to the resource; one of them suffices.
    scopes: Vec<String>,
    /// The permission that the owner had.
    #[schema(inline)]
    grant: Option<GrantJson<'a>>,
}

/// A permission that lets a user read a resource.
#[derive(Serialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantJson<'a> {
    /// The permission's scope.
    scope: Option<&'static str>,
    /// The scope's target, if it has one.
    target: Option<&'a str>,
    /// `user`, `role` or `administrator`.
    by: &'static str,
    /// The role's name.
    role: Option<&'a str>,
    /// The directory revision since which the permission holds.
    since: i64,
}

/// A verdict in JSON. `event` is given when several events are explained.
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

/// A verdict in JSON as this actor may see it. For a user, it does not name resources that the user
/// could not read.
#[must_use]
pub fn seen_by<'a>(actor: &Actor, explained: &'a Explained, one: &'a WebhookExplained) -> Json<'a> {
    let full = json(None, explained, one);
    if actor.is_administrator() || may_know(one) {
        return full;
    }
    Json { detail: detail_seen_by(actor, one), scopes: Vec::new(), ..full }
}

/// A verdict in words as this actor may see it. For a user, it does not name resources that the user could
/// not read.
#[must_use]
pub fn detail_seen_by<'a>(actor: &Actor, one: &'a WebhookExplained) -> &'a str {
    if actor.is_administrator() || may_know(one) {
        &one.explanation.detail
    } else if one.explanation.reasons.contains(&Reason::NoAccess) {
        "owner lacks read on what the event is about"
    } else {
        "owner got nothing of it"
    }
}

/// A grant in JSON. It has no scope and target for administrators, and no target for `any-…`.
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
