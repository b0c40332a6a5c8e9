//! The request of an attempt, reconstructed from the ledger.
//!
//! The ledger stores the outcome of an attempt, not its bytes. The bytes follow from the events,
//! the attempt's number and time, and the webhook. If the webhook was changed after the attempt,
//! the page says so. An event is hidden if the owner may no longer read its resource.

use chrono::{DateTime, Utc};
use fanfare_core::filter::is_delete;
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::AttemptRef;
use fanfare_core::name::Name;
use fanfare_core::notification::render;
use fanfare_core::request::UnsignedRequest;
use fanfare_core::resource::Resource;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::Question;
use fanfare_store::attempts::PlannedEvent;
use fanfare_store::deliveries::AttemptLog;
use fanfare_store::directory::UserStatus;
use fanfare_store::{Store, StoreError};

use crate::{Actor, Context};

/// A limit that the events of any one message stay below, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// A request as it was sent, as far as it can be reconstructed.
///
/// The first line and `host` are shown as in HTTP/1.1, even if the request used HTTP/2.
#[derive(Debug)]
pub struct RequestPreview {
    /// Method, address and version.
    pub line: String,
    /// The headers in order. The values of the webhook's own headers are hidden.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The time at which the webhook was changed after the attempt; `None` if it was not.
    pub changed_at: Option<DateTime<Utc>>,
    /// The number of events that are left out because the owner may no longer read their resources.
    pub hidden: usize,
}

/// The placeholder for the value of a header of the webhook's own, which may be a credential.
const HIDDEN: &str = "••••••";

/// Reconstructs the request of one attempt. Returns `None` if none of it may be shown, or the payload
/// of one of its events was removed.
///
/// # Errors
///
/// [`StoreError`]
pub async fn preview(
    context: &Context,
    actor: &Actor,
    webhook: &Webhook,
    id: DeliveryId,
    attempt: &AttemptLog,
) -> Result<Option<RequestPreview>, StoreError> {
    let store = &context.store;
    let Some((batch, _)) = store.delivery_find(id).await? else { return Ok(None) };
    let due = AttemptRef { batch, webhook: webhook.id, sequence: 1, received_at: None };
    let history = store.delivery_histories(&[due], LARGEST).await?.pop();
    let events = history.map(|history| history.events).unwrap_or_default();
    let shown = readable(store, actor, webhook, &events).await?;
    let readable: Vec<&PlannedEvent> =
        events.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(event, _)| event).collect();
    if readable.is_empty() || readable.iter().any(|event| event.is_removed()) {
        return Ok(None);
    }
    let notifications = readable.iter().filter_map(|event| event.notification.as_deref());
    let body = render(id, attempt.attempt, &webhook.properties, notifications);
    let traceparent = readable.iter().find_map(|event| event.traceparent.as_deref());
    let Some(then) = store.webhook_secrets_at(webhook.id, attempt.at).await? else {
        return Ok(None);
    };
    let signed = UnsignedRequest {
        own: &webhook.headers,
        secrets: &then.secrets,
        id,
        at: attempt.at,
        traceparent,
        body: body.as_bytes(),
    };
    Ok(Some(RequestPreview {
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

/// Returns for each of these events whether the actor may see it.
async fn readable(
    store: &Store,
    actor: &Actor,
    webhook: &Webhook,
    events: &[PlannedEvent],
) -> Result<Vec<bool>, StoreError> {
    if actor.is_administrator() {
        return Ok(vec![true; events.len()]);
    }
    let key = Name::key(&webhook.owner);
    let status = store.user_status(&[key]).await?;
    if status.get(key) != Some(&UserStatus::Enabled) {
        return Ok(vec![false; events.len()]);
    }
    let resources: Vec<Option<Resource>> =
        events.iter().map(|event| Resource::parse(&event.subject).ok()).collect();
    let questions: Vec<Question<'_>> =
        resources.iter().map(|resource| question(key, resource.as_ref())).collect();
    let may = store.may_read(&questions).await?;
    let shown = |(event, may): (&PlannedEvent, bool)| may || is_delete(&event.event_type);
    Ok(events.iter().zip(may).map(shown).collect())
}

/// The access question about a resource. A subject that is no resource grants access to no user.
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

/// Completes the signed headers with those that the client adds. The first `own` headers are the
/// webhook's, and replace the client's headers of the same names. This assumes that the worker has
/// the same version as this process.
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

/// The host, with its port unless that is the scheme's default.
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
