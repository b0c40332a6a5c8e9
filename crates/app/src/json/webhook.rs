//! A webhook in JSON.

use fanfare_core::explain::OwnerState;
use fanfare_core::webhook::{Headers, PauseReason, Secret, Webhook};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Actor;
use crate::clock::{now, rfc3339};

/// A webhook. Clients rely on the names and the order of its members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = WebHook)]
pub struct View<'a> {
    /// 32 hex digits, given by the service.
    id: String,
    #[serde(rename = "WebHookUri")]
    /// The address of its receiver: an absolute URL with `http` or `https`.
    uri: &'a str,
    /// 32 to 128 characters; generated when left out. `null` when an administrator reads another
    /// user's webhook.
    secret: Option<&'a str>,
    /// The owner's description.
    description: Option<&'a str>,
    /// Whether it is paused, so that it gets no notifications.
    is_paused: bool,
    /// The events that it gets: `*`, a filter such as `reports`, or a filter and an action such as
    /// `reports.delete`.
    filters: Vec<&'a str>,
    /// Headers that are added to each POST. An administrator reads `********` for each value of
    /// another user's webhook; sent back, it stands for the stored value.
    #[schema(value_type = Object)]
    headers: Map<String, Value>,
    /// Properties that are added to each body; their values are scalars.
    #[schema(value_type = Object)]
    properties: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The owner; only in lists of other users' webhooks.
    user: Option<&'a str>,
}

/// A webhook as its owner sees it.
#[must_use]
pub fn own(webhook: &Webhook) -> View<'_> {
    let header = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
    View {
        id: webhook.id.to_string(),
        uri: webhook.uri.as_str(),
        secret: webhook.secrets.first().map(Secret::reveal),
        description: webhook.description.as_deref(),
        is_paused: webhook.paused,
        filters: webhook.filters.shown(),
        headers: webhook.headers.iter().map(header).collect(),
        properties: webhook.properties.as_map(),
        user: None,
    }
}

/// Another user's webhook as an administrator sees it: without the secret and the values of
/// headers. Sent back, this form changes neither of them.
#[must_use]
pub fn of_another(webhook: &Webhook) -> View<'_> {
    let header = |(name, _): (&str, &str)| (name.to_owned(), Value::from(Headers::MASK));
    View { secret: None, headers: webhook.headers.iter().map(header).collect(), ..own(webhook) }
}

/// A webhook as this user of the API sees it.
#[must_use]
pub fn seen_by<'a>(actor: &Actor, webhook: &'a Webhook) -> View<'a> {
    if actor.is(&webhook.owner) { own(webhook) } else { of_another(webhook) }
}

/// A webhook in a list of several users' webhooks, as this user of the API sees it.
#[must_use]
pub fn with_user<'a>(actor: &Actor, webhook: &'a Webhook) -> View<'a> {
    View { user: Some(webhook.owner.as_str()), ..seen_by(actor, webhook) }
}

/// A webhook as an operator sees it: with its secret, and with the members that only operators see.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OperatorView<'a> {
    #[serde(flatten)]
    webhook: View<'a>,
    paused_reason: Option<&'a str>,
    owner_state: &'static str,
    rate_limit: Option<u32>,
    held_until: Option<String>,
    while_paused: &'static str,
}

/// A webhook as an operator sees it, with the state of its owner in the directory.
#[must_use]
pub fn for_operator(webhook: &Webhook, owner: OwnerState) -> OperatorView<'_> {
    OperatorView {
        webhook: View { user: Some(webhook.owner.as_str()), ..own(webhook) },
        paused_reason: webhook.paused_reason.as_ref().map(PauseReason::code),
        owner_state: owner.name(),
        rate_limit: webhook.rate_limit,
        held_until: webhook.pacing.held_until(now()).map(rfc3339),
        while_paused: if webhook.hold { "hold" } else { "drop" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use fanfare_core::audit::{Door, Via};
    use fanfare_core::filter::Filters;
    use fanfare_core::ids::WebhookId;
    use fanfare_core::name::Name;
    use fanfare_core::webhook::{Pacing, Properties};
    use uuid::Uuid;

    fn via() -> Via {
        Via::door(Door::Api)
    }

    fn webhook() -> Webhook {
        let properties = serde_json::from_str(r#"{"b":1,"a":"x"}"#).unwrap();
        Webhook {
            id: WebhookId(Uuid::from_u128(7)),
            owner: Name::parse("Anna").unwrap(),
            uri: "https://example.org/hook?a=b".parse().unwrap(),
            secrets: vec!["0123456789abcdef0123456789abcdef".parse().unwrap()],
            description: None,
            paused: true,
            paused_reason: Some(PauseReason::parse("the receiver answered 410")),
            filters: Filters::parse(&["reports.delete"]).unwrap(),
            headers: Headers::parse([("X-A".to_owned(), "1".to_owned())]).unwrap(),
            properties: Properties::parse(properties).unwrap(),
            created_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            failing_since: None,
            rate_limit: None,
            pacing: Pacing::default(),
            hold: false,
            held_since: None,
        }
    }

    #[test]
    fn json_has_the_keys_of_the_api_in_order_and_then_those_for_operators() {
        let text = serde_json::to_string(&for_operator(&webhook(), OwnerState::Disabled)).unwrap();
        let expected = concat!(
            r#"{"Id":"00000000000000000000000000000007","WebHookUri":"https://example.org/hook?a=b","#,
            r#""Secret":"0123456789abcdef0123456789abcdef","Description":null,"IsPaused":true,"#,
            r#""Filters":["reports.delete"],"Headers":{"X-A":"1"},"Properties":{"b":1,"a":"x"},"#,
            r#""User":"Anna","PausedReason":"the receiver answered 410","#,
            r#""OwnerState":"disabled","RateLimit":null,"HeldUntil":null,"#,
            r#""WhilePaused":"drop"}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn an_administrator_sees_no_secret_and_no_header_value_of_another_user() {
        let (webhook, root) =
            (webhook(), Actor::of_administrator(Name::parse("root").unwrap(), via()));
        let text = serde_json::to_string(&with_user(&root, &webhook)).unwrap();
        assert!(
            text.contains(r#""Secret":null"#) && text.contains(r#""X-A":"********""#),
            "{text}"
        );
        let anna = Actor::of_user(Name::parse("ANNA").unwrap(), via());
        let text = serde_json::to_string(&seen_by(&anna, &webhook)).unwrap();
        assert!(text.contains(r#""X-A":"1""#) && !text.contains("User"), "{text}");
    }
}
