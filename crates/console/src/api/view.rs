//! A webhook as the API shows it.

use fanfare_core::webhook::{Secret, Webhook};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A webhook in JSON: names and order are what clients know.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = WebHook)]
pub(crate) struct View<'a> {
    /// 32 hex digits, given by the service.
    id: String,
    #[serde(rename = "WebHookUri")]
    /// Where its notifications go: absolute, `http` or `https`.
    uri: &'a str,
    /// 32 to 128 characters; made when left out.
    secret: Option<&'a str>,
    /// The owner's words about it.
    description: Option<&'a str>,
    /// Whether it gets nothing for now.
    is_paused: bool,
    /// What it asks for: `*`, `reports` or `reports.delete` forms.
    filters: Vec<&'a str>,
    /// Headers that it adds to each POST.
    #[schema(value_type = Object)]
    headers: Map<String, Value>,
    /// Values that it adds to each body; scalars.
    #[schema(value_type = Object)]
    properties: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Whose it is; only in lists of other users' webhooks.
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
