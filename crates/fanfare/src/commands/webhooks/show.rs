//! Formats webhooks for people, and makes the request of a ping.

use anyhow::bail;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use fanfare_app::clock;
use fanfare_core::answer::Answer;
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::DeliveryId;
use fanfare_core::notification;
use fanfare_core::request::UnsignedRequest;
use fanfare_core::webhook::Webhook;
use uuid::Uuid;

use crate::output::plain;

/// The headings of a list.
pub(super) const HEADINGS: [&str; 6] = ["ID", "OWNER", "OWNER STATE", "STATE", "FILTERS", "URI"];

/// The row of a webhook in a list.
pub(super) fn row(webhook: &Webhook, owner: OwnerState) -> [String; HEADINGS.len()] {
    [
        webhook.id.to_string(),
        webhook.owner.to_string(),
        owner.name().to_owned(),
        if webhook.paused { "paused" } else { "active" }.to_owned(),
        webhook.filters.shown().join(","),
        webhook.uri.as_str().to_owned(),
    ]
}

/// All properties of a webhook.
pub(super) fn facts(webhook: &Webhook, owner: OwnerState) -> Vec<(&'static str, String)> {
    let state = match (&webhook.paused, &webhook.paused_reason) {
        (false, _) => "active".to_owned(),
        (true, None) => "paused by its owner or an operator".to_owned(),
        (true, Some(reason)) => format!("paused by the service: {reason}"),
    };
    let headers: Vec<String> =
        webhook.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    vec![
        ("Id", webhook.id.to_string()),
        ("Owner", webhook.owner.to_string()),
        ("Owner state", owner_text(owner).to_owned()),
        ("URI", webhook.uri.as_str().to_owned()),
        ("Secret", webhook.secrets.first().map(|one| one.reveal().to_owned()).unwrap_or_default()),
        ("State", state),
        ("Filters", webhook.filters.shown().join(", ")),
        ("Description", webhook.description.clone().unwrap_or_default()),
        ("Headers", headers.join("; ")),
        ("Properties", webhook.properties.to_json()),
        ("Created", clock::rfc3339(webhook.created_at)),
        ("Failing since", webhook.failing_since.map(clock::rfc3339).unwrap_or_default()),
        (
            "Rate limit",
            webhook.rate_limit.map(|limit| format!("{limit} a minute")).unwrap_or_default(),
        ),
        (
            "Receiver's pace",
            webhook.pacing.interval.map(|it| format!("one each {it:.2} s")).unwrap_or_default(),
        ),
        (
            "Held until",
            webhook.pacing.held_until(clock::now()).map(clock::rfc3339).unwrap_or_default(),
        ),
    ]
}

fn owner_text(owner: OwnerState) -> &'static str {
    match owner {
        OwnerState::Enabled => "enabled",
        OwnerState::Disabled => "disabled: nothing is sent until that changes",
        OwnerState::Deleted => "not in the directory: nothing is sent until that changes",
    }
}

/// A POST without an event.
pub(super) struct Ping {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Ping {
    pub(super) fn new(webhook: &Webhook, now: DateTime<Utc>) -> Self {
        let id = DeliveryId(Uuid::now_v7());
        let notification = r#"{"Action":"ping","UserAction":"ping"}"#;
        let body: Bytes = notification::render(id, 1, &webhook.properties, [notification]).into();
        let request = UnsignedRequest {
            own: &webhook.headers,
            secrets: &webhook.secrets,
            id,
            at: now,
            traceparent: None,
            body: &body,
        };
        Self { headers: request.sign(), body }
    }
}

/// The status of a ping's answer; an error if it is not a success.
pub(super) fn answer(answer: &Answer) -> anyhow::Result<String> {
    match answer {
        Answer::Response { status: status @ 200..=299, .. } => Ok(status.to_string()),
        Answer::Response { status, body, .. } => {
            let start: String = body.chars().take(200).collect();
            bail!("the receiver answered {status} instead of a 2xx: {}", plain(&start))
        }
        Answer::Failed { failure, detail } => {
            bail!("the receiver can't be reached ({}): {detail}", failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::filter::Filters;
    use fanfare_core::ids::WebhookId;
    use fanfare_core::name::Name;
    use fanfare_core::signature::{
        MS_SIGNATURE, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, verify_ms_signature,
        verify_webhook_signature,
    };
    use fanfare_core::webhook::{Headers, Pacing, PauseReason, Properties};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn webhook() -> Webhook {
        let properties = serde_json::from_str(r#"{"b":1,"a":"x"}"#).unwrap();
        Webhook {
            id: WebhookId(Uuid::from_u128(7)),
            owner: Name::parse("Anna").unwrap(),
            uri: "https://example.org/hook?a=b".parse().unwrap(),
            secrets: vec![SECRET.parse().unwrap()],
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
    fn row_has_no_secret() {
        let row = row(&webhook(), OwnerState::Enabled);
        assert!(!row.concat().contains(SECRET));
    }

    #[test]
    fn ping_is_signed_like_a_notification() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ping = Ping::new(&webhook(), now);
        let header = |name: &str| {
            let found = ping.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        let secret = SECRET.parse().unwrap();
        assert!(verify_ms_signature(&secret, &ping.body, &header(MS_SIGNATURE)));
        let (id, at) = (header(WEBHOOK_ID), header(WEBHOOK_TIMESTAMP));
        let signature = header(WEBHOOK_SIGNATURE);
        assert!(verify_webhook_signature(&secret, &id, &at, &ping.body, &signature));
        assert_eq!(header("X-A"), "1");
    }
}
