//! A webhook as the API shows it.

use fanfare_core::webhook::{Secret, Webhook};
use serde::Serialize;
use serde_json::{Map, Value};

/// A webhook in JSON: names and order are what clients know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct View<'a> {
    id: String,
    #[serde(rename = "WebHookUri")]
    uri: &'a str,
    secret: Option<&'a str>,
    description: Option<&'a str>,
    is_paused: bool,
    filters: Vec<&'a str>,
    headers: Map<String, Value>,
    properties: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

/// As its owner sees it.
pub(crate) fn own(webhook: &Webhook) -> View<'_> {
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

/// As an administrator sees it among those of others.
pub(crate) fn with_user(webhook: &Webhook) -> View<'_> {
    View { user: Some(webhook.owner.as_str()), ..own(webhook) }
}
