//! An entry of the audit trail in JSON.

use fanfare_store::audit::AuditRecord;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// Who did what, when, by which door, and from where.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
pub struct Json<'a> {
    /// Its number. A later entry has not always a larger one.
    id: i64,
    /// When it was done.
    #[schema(format = DateTime)]
    at: String,
    /// The name of the user, or of the operating system's user for a command; `null` for the
    /// service itself.
    actor: Option<&'a str>,
    /// `console`, `api`, `cli`, or `system` for the service itself.
    door: &'a str,
    /// The client's address, or `user@host` of a command. Users see only their own.
    address: Option<&'a str>,
    /// The id that a proxy gave the request.
    correlation: Option<&'a str>,
    /// A stable code, such as `webhook.paused`.
    action: &'a str,
    /// `webhook`, `webhooks`, `account`, `delivery`, `dead-letter`, `resend`, `operation` or `directory`.
    object_kind: &'a str,
    /// The id of the object.
    object_id: &'a str,
    /// The id of the webhook that it concerns.
    webhook: Option<String>,
    /// The owner of that webhook.
    owner: Option<&'a str>,
    /// What changed, as it was before. Secrets and values of headers are fingerprints.
    #[schema(value_type = Option<Object>)]
    before: Option<&'a Value>,
    /// What changed, as it was after.
    #[schema(value_type = Option<Object>)]
    after: Option<&'a Value>,
    /// A remark for a person.
    note: Option<&'a str>,
}

/// An entry in JSON.
#[must_use]
pub fn json(entry: &AuditRecord) -> Json<'_> {
    Json {
        id: entry.position.id,
        at: rfc3339(entry.position.at),
        actor: entry.actor.as_deref(),
        door: &entry.door,
        address: entry.address.as_deref(),
        correlation: entry.correlation.as_deref(),
        action: &entry.action,
        object_kind: &entry.object.0,
        object_id: &entry.object.1,
        webhook: entry.webhook.map(|id| id.to_string()),
        owner: entry.owner.as_deref(),
        before: entry.before.as_ref(),
        after: entry.after.as_ref(),
        note: entry.note.as_deref(),
    }
}
