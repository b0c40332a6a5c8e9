//! A notice in JSON.

use fanfare_store::notices::Listed;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// A notice: what somebody was told about the installation or a webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notice)]
pub struct Json<'a> {
    /// 32 hex digits; the same each time that the notice is told.
    id: String,
    /// Its type, such as `webhook.paused`.
    r#type: &'static str,
    /// The cause, 32 hex digits; all of its notices have the same.
    cause: String,
    /// When it was decided.
    #[schema(format = DateTime)]
    at: String,
    /// What it says, in English.
    text: String,
    /// The webhook that it is about; `null` if it is about the whole installation.
    webhook: Option<String>,
    /// That webhook's owner; `null` as above.
    owner: Option<&'a str>,
    /// The host of that webhook's address; `null` as above.
    host: Option<&'a str>,
    /// Further facts, which depend on the type.
    #[schema(value_type = Object)]
    facts: &'a Map<String, Value>,
    /// The ways in which it is still to be told: `exchange`, `webhook`, `mail`.
    waiting: &'a [String],
    /// When the last way had told it; `null` before.
    #[schema(format = DateTime)]
    told_at: Option<String>,
    /// Why ways have not told it, by way.
    #[schema(value_type = Object)]
    failures: &'a Map<String, Value>,
}

/// A notice in JSON.
#[must_use]
pub fn json(listed: &Listed) -> Json<'_> {
    let notice = &listed.notice;
    let webhook = notice.webhook.as_ref();
    Json {
        id: notice.id.simple().to_string(),
        r#type: notice.says.code(),
        cause: notice.cause.simple().to_string(),
        at: rfc3339(notice.at),
        text: notice.sentence(),
        webhook: webhook.map(|webhook| webhook.id.to_string()),
        owner: webhook.map(|webhook| webhook.owner.as_str()),
        host: webhook.map(|webhook| webhook.host.as_str()),
        facts: &notice.facts,
        waiting: &listed.waiting,
        told_at: listed.told_at.map(rfc3339),
        failures: &listed.failures,
    }
}
