//! Entries about webhooks.
//!
//! Before and after have only what changed. A change of several kinds gives an entry for each: a
//! pause, another secret, and everything else. So a search for one action finds all of its cases,
//! whatever else the same request changed.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use url::Url;

use super::entry::{Entry, ObjectKind};
use super::text::{bounded, object, text};
use super::{Action, fingerprint};
use crate::filter::Filters;
use crate::ids::WebhookId;
use crate::name::Name;
use crate::notice::OwnerChannels;
use crate::webhook::{PauseReason, Webhook, WebhookUri};

/// Whether a webhook is paused, and the service's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub paused: bool,
    pub reason: Option<PauseReason>,
    /// Whether it holds what happens meanwhile.
    pub hold: bool,
}

/// The properties of a webhook that are not sealed, by which a deleted one is described. Its
/// secrets need not be readable.
#[derive(Debug, Clone)]
pub struct Unsealed<'a> {
    pub id: WebhookId,
    pub owner: &'a Name,
    /// The address as it is stored.
    pub uri: &'a str,
    pub description: Option<&'a str>,
    pub filters: &'a [String],
    pub pause: Pause,
}

/// A webhook was registered or imported.
#[must_use]
pub fn created(webhook: &Webhook, action: Action) -> Entry {
    Entry { after: Some(Value::Object(all(webhook))), ..about(action, webhook.id, &webhook.owner) }
}

/// A webhook was changed from one state to another: an entry for each kind of change, and none when
/// they are equal.
#[must_use]
pub fn changes(before: &Webhook, after: &Webhook) -> Vec<Entry> {
    let (old, new) = (all(before), all(after));
    let kinds = [
        (Action::WebhookChanged, Kind::Other),
        (Action::WebhookSecretRotated, Kind::Secret),
        (if after.paused { Action::WebhookPaused } else { Action::WebhookResumed }, Kind::Pause),
    ];
    let entry = |(action, kind): (Action, Kind)| {
        let differs = |name: &&String| Kind::of(name) == kind && old.get(*name) != new.get(*name);
        let names: Vec<&String> = old.keys().chain(new.keys()).filter(differs).collect();
        if names.is_empty() {
            return None;
        }
        let part = |of: &Map<String, Value>| {
            let member =
                |name: &&String| ((*name).clone(), of.get(*name).cloned().unwrap_or(Value::Null));
            Some(Value::Object(names.iter().map(member).collect()))
        };
        let (before, after_part) = (part(&old), part(&new));
        Some(Entry { before, after: after_part, ..about(action, after.id, &after.owner) })
    };
    kinds.into_iter().filter_map(entry).collect()
}

/// A webhook was paused or resumed; `None` when it was so already.
#[must_use]
pub fn paused(id: WebhookId, owner: &Name, before: &Pause, after: &Pause) -> Option<Entry> {
    let action = if after.paused { Action::WebhookPaused } else { Action::WebhookResumed };
    (before != after).then(|| Entry {
        before: Some(Value::Object(before.members())),
        after: Some(Value::Object(after.members())),
        ..about(action, id, owner)
    })
}

/// A webhook was deleted.
#[must_use]
pub fn deleted(webhook: &Unsealed<'_>) -> Entry {
    let before = Value::Object(webhook.members());
    Entry { before: Some(before), ..about(Action::WebhookDeleted, webhook.id, webhook.owner) }
}

/// A webhook's secrets were shown.
#[must_use]
pub fn secret_revealed(webhook: &Webhook) -> Entry {
    let mut shown = Map::new();
    shown.insert(SECRETS.to_owned(), secrets(webhook));
    let after = Some(Value::Object(shown));
    Entry { after, ..about(Action::WebhookSecretRevealed, webhook.id, &webhook.owner) }
}

/// The secrets of `count` webhooks were shown: those of one owner, or all.
#[must_use]
pub fn secrets_listed(owner: Option<&Name>, count: usize) -> Entry {
    let id = owner.map_or("all".to_owned(), |owner| bounded(owner.key()));
    let after = Some(serde_json::json!({ "count": count }));
    let listed = Entry::new(Action::WebhookSecretsListed, ObjectKind::Webhooks, id);
    Entry { after, owner: owner.cloned(), ..listed }
}

/// A webhook got another secret: the fingerprints of those before and of those that are valid now,
/// the newest first. The previous ones sign as well until a time.
#[must_use]
pub fn secret_rotated(
    id: WebhookId,
    owner: &Name,
    fingerprints: (&[String], &[String]),
    previous_until: DateTime<Utc>,
) -> Entry {
    let (old, new) = fingerprints;
    let previous_until = previous_until.to_rfc3339_opts(SecondsFormat::Millis, true);
    let before = serde_json::json!({ SECRETS: old });
    let after = serde_json::json!({ SECRETS: new, "previousUntil": previous_until });
    let rotated = about(Action::WebhookSecretRotated, id, owner);
    Entry { before: Some(before), after: Some(after), ..rotated }
}

/// An owner chose other channels of notices; `None` when they are the same. `id` is that of the
/// settings, by which fingerprints differ.
#[must_use]
pub fn notice_settings_changed(
    id: WebhookId,
    owner: &Name,
    before: &OwnerChannels,
    after: &OwnerChannels,
) -> Option<Entry> {
    let kind = ObjectKind::NoticeSettings;
    let entry = Entry::new(Action::NoticeSettingsChanged, kind, bounded(owner.key()));
    (before != after).then(|| Entry {
        owner: Some(owner.clone()),
        before: Some(channels(id, before)),
        after: Some(channels(id, after)),
        ..entry
    })
}

fn channels(id: WebhookId, of: &OwnerChannels) -> Value {
    let types: Vec<&str> = of.kinds.iter().map(|kind| kind.code()).collect();
    let webhook = of.webhook.as_ref();
    serde_json::json!({
        "types": types,
        "url": webhook.map(|it| url(id, it.uri.as_str())),
        "secret": webhook.map(|it| fingerprint(id, it.secret.reveal())),
        "mail": of.mail.as_ref().map(|mail| bounded(mail.as_str())),
    })
}

const SECRETS: &str = "secrets";
const HOLD: &str = "hold";
const PAUSED: &str = "paused";
const PAUSED_REASON: &str = "pausedReason";

/// The kind of a change, by the member that changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pause,
    Secret,
    Other,
}

impl Kind {
    fn of(member: &str) -> Self {
        match member {
            PAUSED | PAUSED_REASON => Self::Pause,
            SECRETS => Self::Secret,
            _ => Self::Other,
        }
    }
}

fn about(action: Action, id: WebhookId, owner: &Name) -> Entry {
    Entry {
        webhook: Some(id),
        owner: Some(owner.clone()),
        ..Entry::new(action, ObjectKind::Webhook, id.to_string())
    }
}

impl Pause {
    fn members(&self) -> Map<String, Value> {
        let reason = self.reason.as_ref().map(|reason| bounded(reason.code()));
        let hold = (HOLD, Value::from(true));
        [(PAUSED, Value::from(self.paused)), (PAUSED_REASON, Value::from(reason))]
            .into_iter()
            .chain(self.hold.then_some(hold))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn of(webhook: &Webhook) -> Self {
        Self { paused: webhook.paused, reason: webhook.paused_reason.clone(), hold: webhook.hold }
    }
}

impl Unsealed<'_> {
    fn members(&self) -> Map<String, Value> {
        let filters = self.filters.iter().map(|filter| text(filter)).collect();
        let mut members = self.pause.members();
        members.insert("url".to_owned(), text(&url(self.id, self.uri)));
        members.insert("description".to_owned(), self.description.map_or(Value::Null, text));
        members.insert("filters".to_owned(), Value::Array(filters));
        members
    }
}

/// All members of a webhook, with fingerprints of what is confidential.
fn all(webhook: &Webhook) -> Map<String, Value> {
    let id = webhook.id;
    let filters: Vec<String> = shown(&webhook.filters);
    let unsealed = Unsealed {
        id,
        owner: &webhook.owner,
        uri: webhook.uri.as_str(),
        description: webhook.description.as_deref(),
        filters: &filters,
        pause: Pause::of(webhook),
    };
    let mut members = unsealed.members();
    let header = |(name, value)| (name, fingerprint(id, value));
    let properties = webhook.properties.as_map();
    let property = |(name, value): (&'_ String, &Value)| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), shown)
    };
    let properties: Vec<(String, String)> = properties.iter().map(property).collect();
    let properties = properties.iter().map(|(name, value)| (name.as_str(), value.clone()));
    members.insert("headers".to_owned(), object(webhook.headers.iter().map(header)));
    members.insert("properties".to_owned(), object(properties));
    members.insert("rateLimit".to_owned(), webhook.rate_limit.into());
    members.insert(SECRETS.to_owned(), secrets(webhook));
    members
}

fn secrets(webhook: &Webhook) -> Value {
    let one = |secret: &crate::webhook::Secret| fingerprint(webhook.id, secret.reveal());
    webhook.secrets.iter().map(one).collect()
}

fn shown(filters: &Filters) -> Vec<String> {
    filters.shown().into_iter().map(str::to_owned).collect()
}

/// An address, with fingerprints in place of a password and of the values of its query, which are
/// credentials at many receivers.
fn url(id: WebhookId, stored: &str) -> String {
    let Ok(uri) = stored.parse::<WebhookUri>() else {
        return fingerprint(id, stored);
    };
    let is_plain = uri.url().password().is_none() && uri.url().query().is_none();
    let is_plain = is_plain && uri.url().username().is_empty() && uri.url().fragment().is_none();
    if is_plain { stored.to_owned() } else { without_credentials(id, uri.url()) }
}

fn without_credentials(id: WebhookId, url: &Url) -> String {
    let mut shown = format!("{}://", url.scheme());
    if !url.username().is_empty() || url.password().is_some() {
        let user = format!("{}:{}", url.username(), url.password().unwrap_or_default());
        shown.push_str(&fingerprint(id, &user));
        shown.push('@');
    }
    shown.push_str(&url[url::Position::BeforeHost..url::Position::AfterPath]);
    let parameter = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !value.is_empty() => format!("{name}={}", fingerprint(id, value)),
        Some((name, _)) => format!("{name}="),
        // It may be a token as a whole, unless it is the switch of the registration.
        None if pair.eq_ignore_ascii_case("noecho") || pair.is_empty() => pair.to_owned(),
        None => fingerprint(id, pair),
    };
    if let Some(query) = url.query() {
        let parameters: Vec<String> = query.split('&').map(parameter).collect();
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    if let Some(fragment) = url.fragment() {
        shown.push('#');
        shown.push_str(&fingerprint(id, fragment));
    }
    shown
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
