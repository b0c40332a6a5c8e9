//! A notice in JSON.

use fanfare_store::notices::{Listed, Send};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// A notice: a message about the installation or a webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notice)]
pub struct Json<'a> {
    /// 32 hex digits; the same each time that the notice is sent.
    id: String,
    /// Its type, such as `webhook.paused`.
    r#type: &'static str,
    /// The cause, 32 hex digits; all of its notices have the same.
    cause: String,
    /// When it was made.
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
    /// The channels by which it was sent or is to be sent. Users see only those of their own.
    channels: Vec<Sending<'a>>,
}

/// The sending of a notice by one channel.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NoticeSending)]
pub struct Sending<'a> {
    /// `exchange`, `webhook` or `mail` of the operators; `owner-webhook` or `owner-mail` of the owner.
    channel: &'static str,
    /// `waiting` until it is sent, `sent`, or `not-sent`: it was given up, or may not be sent.
    state: &'static str,
    /// When it was sent; `null` if it was not.
    #[schema(format = DateTime)]
    sent_at: Option<String>,
    /// Why the last try failed, or why it is not sent; `null` if no try failed.
    failure: Option<&'a str>,
}

/// A notice in JSON.
#[must_use]
pub fn json(listed: &Listed) -> Json<'_> {
    let notice = &listed.notice;
    let webhook = notice.webhook.as_ref();
    Json {
        id: notice.id.simple().to_string(),
        r#type: notice.kind.code(),
        cause: notice.cause.simple().to_string(),
        at: rfc3339(notice.at),
        text: notice.sentence(),
        webhook: webhook.map(|webhook| webhook.id.to_string()),
        owner: webhook.map(|webhook| webhook.owner.as_str()),
        host: webhook.map(|webhook| webhook.host.as_str()),
        facts: &notice.facts,
        channels: listed.sends.iter().map(sending).collect(),
    }
}

fn sending(send: &Send) -> Sending<'_> {
    Sending {
        channel: send.channel.code(),
        state: send.state.code(),
        sent_at: send.sent_at.map(rfc3339),
        failure: send.failure.as_deref(),
    }
}
