//! The request of an attempt, made once more from the ledger.
//!
//! The ledger keeps what an attempt came to, not its bytes: those follow from the events, the
//! attempt's number and time, and the webhook. When the webhook was changed since, the page says
//! so. Nothing is shown of an event whose resource the owner may not read by now.

use chrono::{DateTime, Utc};
use fanfare_core::filter::is_delete;
use fanfare_core::ids::{BatchKey, DeliveryId};
use fanfare_core::job::Due;
use fanfare_core::name::Name;
use fanfare_core::notification::render;
use fanfare_core::request::UnsignedRequest;
use fanfare_core::resource::Resource;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::Question;
use fanfare_store::attempts::PlannedEvent;
use fanfare_store::deliveries::AttemptLog;
use fanfare_store::directory::UserStatus;

use super::error::Failed;
use super::visitor::Visitor;
use crate::app::App;

/// More than the events of any message have together, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// A request as it was sent, or nearly so.
///
/// What HTTP/2 makes of the first line and of `host` is not told apart.
#[derive(Debug)]
pub(super) struct Rebuilt {
    /// Method, address and version.
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// When the webhook was changed after the attempt; `None` when it was not.
    pub(super) changed_at: Option<DateTime<Utc>>,
    /// Events that are left out because the owner may not read their resources by now.
    pub(super) hidden: usize,
}

/// What stands for a header's own value, which may be a credential.
const HIDDEN: &str = "••••••";

/// The request of one attempt; `None` when nothing of it may be shown.
pub(super) async fn request(
    app: &App,
    visitor: &Visitor,
    webhook: &Webhook,
    batch: BatchKey,
    attempt: &AttemptLog,
) -> Result<Option<Rebuilt>, Failed> {
    let due = Due { batch, webhook: webhook.id, entry: 1 };
    let standing = app.store.attempts_standing(&[due], LARGEST).await?.pop();
    let events = standing.map(|standing| standing.events).unwrap_or_default();
    let shown = readable(app, visitor, webhook, &events).await?;
    let readable: Vec<&PlannedEvent> =
        events.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(event, _)| event).collect();
    if readable.is_empty() {
        return Ok(None);
    }
    let notifications = readable.iter().filter_map(|event| event.notification.as_deref());
    let id = DeliveryId::of(batch, webhook.id);
    let body = render(id, attempt.attempt, &webhook.properties, notifications);
    let traceparent = readable.iter().find_map(|event| event.traceparent.as_deref());
    let then = app.store.webhook_then(webhook.id, attempt.at).await?.ok_or(Failed::Unknown)?;
    let signed = UnsignedRequest {
        own: &webhook.headers,
        secrets: &then.secrets,
        id,
        at: attempt.at,
        traceparent,
        body: body.as_bytes(),
    };
    Ok(Some(Rebuilt {
        line: line(webhook),
        headers: as_sent(
            signed.sign(),
            webhook.headers.as_slice().len(),
            host(webhook),
            body.len(),
        ),
        body,
        changed_at: Some(then.changed_at).filter(|at| *at > attempt.at),
        hidden: events.len() - readable.len(),
    }))
}

/// Which of these events the visitor may see.
async fn readable(
    app: &App,
    visitor: &Visitor,
    webhook: &Webhook,
    events: &[PlannedEvent],
) -> Result<Vec<bool>, Failed> {
    if visitor.caller.administrator {
        return Ok(vec![true; events.len()]);
    }
    let key = Name::key(&webhook.owner);
    let status = app.store.user_status(&[key]).await?;
    if status.get(key) != Some(&UserStatus::Enabled) {
        return Ok(vec![false; events.len()]);
    }
    let resources: Vec<Option<Resource>> =
        events.iter().map(|event| Resource::parse(&event.subject).ok()).collect();
    let questions: Vec<Question<'_>> =
        resources.iter().map(|resource| question(key, resource.as_ref())).collect();
    let may = app.store.may_read(&questions).await?;
    let shown = |(event, may): (&PlannedEvent, bool)| may || is_delete(&event.event_type);
    Ok(events.iter().zip(may).map(shown).collect())
}

/// What to ask of a resource; what is none lets nobody read.
fn question<'a>(user_key: &'a str, resource: Option<&'a Resource>) -> Question<'a> {
    let scopes = resource.into_iter().flat_map(Resource::read_scopes);
    let scopes = scopes.map(|(scope, target)| (scope.name(), target)).collect();
    Question { user_key, scopes }
}

fn line(webhook: &Webhook) -> String {
    let url = webhook.uri.url();
    match url.query() {
        Some(query) => format!("POST {}?{query} HTTP/1.1", url.path()),
        None => format!("POST {} HTTP/1.1", url.path()),
    }
}

/// The signed headers as the client sends them, with those that HTTP needs. The webhook's `own` come
/// first, and one of them takes the place of the client's of that name. The worker's version is taken
/// to be this one.
fn as_sent(
    mut headers: Vec<(String, String)>,
    own: usize,
    host: String,
    length: usize,
) -> Vec<(String, String)> {
    for (_, value) in headers.iter_mut().take(own) {
        HIDDEN.clone_into(value);
    }
    let added = [
        ("accept", "*/*".to_owned()),
        ("user-agent", concat!("Fanfare/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("host", host),
        ("content-length", length.to_string()),
    ];
    for (name, value) in added {
        if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            headers.push((name.to_owned(), value));
        }
    }
    headers
}

/// The host, with its port when that is not the scheme's own.
fn host(webhook: &Webhook) -> String {
    let url = webhook.uri.url();
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_user_agent_replaces_the_clients_and_its_value_is_hidden() {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let signed = [("User-Agent", "mine"), ("x-key", "k"), ("webhook-id", "7")].map(pair);
        let headers = as_sent(signed.to_vec(), 2, "example.org".to_owned(), 12);
        let expected = [
            ("User-Agent", HIDDEN),
            ("x-key", HIDDEN),
            ("webhook-id", "7"),
            ("accept", "*/*"),
            ("host", "example.org"),
            ("content-length", "12"),
        ];
        assert_eq!(headers, expected.map(pair));
    }
}
