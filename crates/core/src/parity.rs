//! The comparison of what Fanfare sends with what receivers got from another server.
//!
//! The other server's POSTs have ids of their own, so that a notification is recognised by its
//! resource, its action and its time. A POST belongs to the webhook whose secret has signed it and
//! whose address it was sent to; behind a proxy, to the one whose secret has signed it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::ids::WebhookId;
use crate::signature::{MS_SIGNATURE, verify_ms_signature};
use crate::webhook::Webhook;

/// A line of a record: a POST that a receiver got, or only a time at which it was recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine {
    /// When it came.
    pub time: DateTime<Utc>,
    /// The address that it was sent to, as far as the receiver knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body as a text, which keeps the bytes that were signed, or as JSON.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

/// A POST that a receiver got.
#[derive(Debug, Clone)]
pub struct Post {
    /// When it came.
    pub at: DateTime<Utc>,
    /// The address that it was sent to, if it is known.
    pub url: Option<Url>,
    /// Its headers, with their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body, if the bytes that were signed are known.
    signed: Option<String>,
    body: Body,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    id: String,
    properties: Option<Map<String, Value>>,
    notifications: Vec<Map<String, Value>>,
}

/// A line of a record that has a body which is not that of a POST to a webhook.
#[derive(Debug, thiserror::Error)]
#[error("the body is not what is sent to webhooks: {0}")]
pub struct NotAPost(#[from] serde_json::Error);

impl Post {
    /// The POST of a line; `None` if the line has only a time.
    ///
    /// # Errors
    ///
    /// [`NotAPost`]
    pub fn of(line: RecordLine) -> Result<Option<Self>, NotAPost> {
        let (signed, body) = match line.body {
            Value::Null => return Ok(None),
            Value::String(text) => {
                let bytes = crate::json::without_byte_order_mark(text.as_bytes());
                let body = serde_json::from_slice(bytes)?;
                (Some(text), body)
            }
            other => (None, serde_json::from_value(other)?),
        };
        let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
        Ok(Some(Self {
            at: line.time,
            url: line.url.as_deref().and_then(|url| Url::parse(url).ok()),
            headers: line.headers.into_iter().map(lower).collect(),
            signed,
            body,
        }))
    }

    /// Whether a secret of the webhook has signed it; `None` if that is not known.
    fn is_signed_by(&self, webhook: &Webhook) -> Option<bool> {
        let (body, header) = (self.signed.as_ref()?, self.headers.get(MS_SIGNATURE)?);
        let mut secrets = webhook.secrets.iter();
        Some(secrets.any(|secret| verify_ms_signature(secret, body.as_bytes(), header)))
    }

    /// Finds the webhooks that it may belong to, by its address and signature.
    #[must_use]
    pub fn attributed(self, all: &[Webhook]) -> Attributed<'_> {
        let webhooks = self.webhooks(all);
        Attributed { post: self, webhooks }
    }

    fn webhooks<'a>(&self, all: &'a [Webhook]) -> Vec<&'a Webhook> {
        let has_url = |it: &&Webhook| self.url.as_ref() == Some(it.uri.url());
        let is_signed = |it: &&Webhook| self.is_signed_by(it) == Some(true);
        let with_url: Vec<&Webhook> = all.iter().filter(has_url).collect();
        let signed: Vec<&Webhook> = with_url.iter().copied().filter(|it| is_signed(it)).collect();
        match (signed.is_empty(), with_url.is_empty()) {
            (false, _) => signed,
            // Its signature is wrong or not known.
            (true, false) => with_url,
            (true, true) => all.iter().filter(is_signed).collect(),
        }
    }
}

/// A POST with the webhooks that it may belong to: one, unless several have its address and secret.
#[derive(Debug, Clone)]
pub struct Attributed<'a> {
    pub post: Post,
    pub webhooks: Vec<&'a Webhook>,
}

/// What a notification is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The filter and the action of the event's type, in lower case.
    pub event_type: String,
    /// The resource's id.
    pub resource: String,
}

impl Key {
    /// The key of a notification.
    #[must_use]
    pub fn of(notification: &Map<String, Value>) -> Self {
        let text = |name| notification.get(name).and_then(Value::as_str).unwrap_or_default();
        let event_type = format!("{}.{}", text(ACTION), text(USER_ACTION)).to_lowercase();
        Self { event_type, resource: text("Id").to_owned() }
    }
}

const ACTION: &str = "Action";
const USER_ACTION: &str = "UserAction";

/// A notification that Fanfare sends to a webhook, or would send.
#[derive(Debug, Clone)]
pub struct Ours {
    pub webhook: WebhookId,
    /// When its event came.
    pub at: DateTime<Utc>,
    pub notification: Map<String, Value>,
}

/// What is compared.
pub struct Comparing<'a> {
    pub ours: &'a [Ours],
    pub posts: &'a [Attributed<'a>],
    /// How far apart the times of a notification may be.
    pub window: TimeDelta,
    /// The time in which the receiver was recording.
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// The result of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The notifications that the receiver got, without repetitions.
    pub there: usize,
    /// The notifications that Fanfare sends in that time.
    pub here: usize,
    /// The notifications that are the same.
    pub same: usize,
    /// What differs, sorted by time, webhook and notification.
    pub differences: Vec<Difference>,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub at: DateTime<Utc>,
    /// The webhook; `None` if no webhook here is like the one that the receiver got it for.
    pub webhook: Option<WebhookId>,
    pub what: What,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The receiver got it from the other server, and Fanfare does not send it.
    MissingHere(Key),
    /// Fanfare sends it, and the receiver did not get it from the other server. The number is its
    /// position among [`Comparing::ours`].
    MissingThere(Key, usize),
    /// Members of the notification are different, or only one of the two has them.
    Members(Key, Vec<String>),
    /// The receiver got a POST that no webhook here is for.
    NoWebhook(Key),
    /// The webhook's secrets here did not sign POSTs of the other server: this number.
    Secret(usize),
    /// The webhook's properties are not those of this number of POSTs.
    Properties(usize),
    /// The webhook's header with this name was not in this number of POSTs, or had another value.
    Header(String, usize),
}

impl What {
    /// The code that is shown.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHere(_) => "missing-here",
            Self::MissingThere(..) => "missing-there",
            Self::Members(..) => "members",
            Self::NoWebhook(_) => "no-webhook",
            Self::Secret(_) => "secret",
            Self::Properties(_) => "properties",
            Self::Header(..) => "header",
        }
    }

    /// The notification's key, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::MissingHere(key)
            | Self::MissingThere(key, _)
            | Self::Members(key, _)
            | Self::NoWebhook(key) => Some(key),
            Self::Secret(_) | Self::Properties(_) | Self::Header(..) => None,
        }
    }
}

/// Compares what Fanfare sends with what the receiver got.
#[must_use]
pub fn compare(comparing: &Comparing<'_>) -> Compared {
    let mut matching = Matching::new(comparing);
    let mut settings = Settings::default();
    let mut seen = HashSet::new();
    let mut posts: Vec<&Attributed<'_>> = comparing.posts.iter().collect();
    posts.sort_by_key(|it| it.post.at);
    for Attributed { post, webhooks } in posts {
        // The other server repeats a POST with the same id.
        if !seen.insert((&post.body.id, webhooks.first().map(|it| it.id))) {
            continue;
        }
        if let [webhook] = webhooks[..] {
            settings.compare(post, webhook);
        }
        for notification in &post.body.notifications {
            matching.take(post.at, webhooks, notification);
        }
    }
    let mut compared = matching.end();
    compared.differences.extend(settings.differences());
    let order = |it: &Difference| (it.at, it.webhook, it.what.key().cloned());
    compared.differences.sort_by_cached_key(order);
    compared
}

/// The matching of notifications.
struct Matching<'a> {
    comparing: &'a Comparing<'a>,
    /// The positions of ours that are not matched yet.
    left: HashMap<Key, Vec<usize>>,
    compared: Compared,
}

impl<'a> Matching<'a> {
    fn new(comparing: &'a Comparing<'a>) -> Self {
        let mut left: HashMap<Key, Vec<usize>> = HashMap::new();
        for (index, ours) in comparing.ours.iter().enumerate() {
            left.entry(Key::of(&ours.notification)).or_default().push(index);
        }
        let is_within = |ours: &&Ours| ours.at >= comparing.from && ours.at <= comparing.to;
        let here = comparing.ours.iter().filter(is_within).count();
        Self { comparing, left, compared: Compared { here, ..Compared::default() } }
    }

    /// Matches a notification that the receiver got.
    fn take(&mut self, at: DateTime<Utc>, webhooks: &[&Webhook], theirs: &Map<String, Value>) {
        self.compared.there += 1;
        let key = Key::of(theirs);
        let Some(first) = webhooks.first() else {
            let what = What::NoWebhook(key);
            return self.compared.differences.push(Difference { at, webhook: None, what });
        };
        let Some((ours, index)) = self.nearest(at, webhooks, &key) else {
            let (webhook, what) = (Some(first.id), What::MissingHere(key));
            return self.compared.differences.push(Difference { at, webhook, what });
        };
        if let Some(left) = self.left.get_mut(&key) {
            left.retain(|other| *other != index);
        }
        match different(&ours.notification, theirs) {
            members if members.is_empty() => self.compared.same += 1,
            members => {
                let (webhook, what) = (Some(ours.webhook), What::Members(key, members));
                self.compared.differences.push(Difference { at, webhook, what });
            }
        }
    }

    /// The one of ours that is nearest in time.
    fn nearest(
        &self,
        at: DateTime<Utc>,
        webhooks: &[&Webhook],
        key: &Key,
    ) -> Option<(&'a Ours, usize)> {
        let left = self.left.get(key)?.iter();
        let ours = left.filter_map(|index| Some((self.comparing.ours.get(*index)?, *index)));
        let distance = |ours: &Ours| (ours.at - at).abs();
        ours.filter(|(ours, _)| webhooks.iter().any(|webhook| webhook.id == ours.webhook))
            .filter(|(ours, _)| distance(ours) <= self.comparing.window)
            .min_by_key(|(ours, _)| distance(ours))
    }

    /// What is left, the receiver did not get.
    fn end(mut self) -> Compared {
        for (key, left) in self.left {
            for index in left {
                let Some(ours) = self.comparing.ours.get(index) else { continue };
                if ours.at < self.comparing.from || ours.at > self.comparing.to {
                    continue;
                }
                let (at, webhook) = (ours.at, Some(ours.webhook));
                let what = What::MissingThere(key.clone(), index);
                self.compared.differences.push(Difference { at, webhook, what });
            }
        }
        self.compared
    }
}

/// The members whose values differ, by their names. The names of filters and actions are written in
/// different ways.
fn different(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Vec<String> {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let is_different = |name: &&String| match (ours.get(*name), theirs.get(*name)) {
        (Some(_), Some(_)) if *name == ACTION || *name == USER_ACTION => false,
        (ours, theirs) => ours != theirs,
    };
    let shown = |name: &String| match (ours.contains_key(name), theirs.contains_key(name)) {
        (true, false) => format!("{name} (only here)"),
        (false, true) => format!("{name} (only there)"),
        _ => name.clone(),
    };
    names.into_iter().filter(is_different).map(shown).collect()
}

/// The differences of webhooks' settings, with the time of the first and their numbers.
#[derive(Default)]
struct Settings(BTreeMap<(WebhookId, Setting), (DateTime<Utc>, usize)>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    Secret,
    Properties,
    Header(String),
}

impl Settings {
    fn compare(&mut self, post: &Post, webhook: &Webhook) {
        let mut note = |setting| {
            self.0.entry((webhook.id, setting)).or_insert((post.at, 0)).1 += 1;
        };
        if post.is_signed_by(webhook) == Some(false) {
            note(Setting::Secret);
        }
        let own: Map<String, Value> =
            serde_json::from_str(&webhook.properties.to_json()).unwrap_or_default();
        if post.body.properties.clone().unwrap_or_default() != own {
            note(Setting::Properties);
        }
        for (name, value) in webhook.headers.iter() {
            if post.headers.get(&name.to_ascii_lowercase()).map(String::as_str) != Some(value) {
                note(Setting::Header(name.to_owned()));
            }
        }
    }

    fn differences(self) -> impl Iterator<Item = Difference> {
        self.0.into_iter().map(|((webhook, setting), (at, count))| {
            let what = match setting {
                Setting::Secret => What::Secret(count),
                Setting::Properties => What::Properties(count),
                Setting::Header(name) => What::Header(name, count),
            };
            Difference { at, webhook: Some(webhook), what }
        })
    }
}

#[cfg(test)]
#[path = "parity_tests.rs"]
mod tests;
