//! A webhook as the API shows it.

use std::collections::BTreeMap;

use fanfare_core::webhook::{Headers, Secret, Webhook};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::auth::caller::Caller;

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
    /// 32 to 128 characters; made when left out. Null in what an administrator reads of others.
    secret: Option<&'a str>,
    /// The owner's words about it.
    description: Option<&'a str>,
    /// Whether it gets nothing for now.
    is_paused: bool,
    /// What it asks for: `*`, `reports` or `reports.delete` forms.
    filters: Vec<&'a str>,
    /// Headers that it adds to each POST. An administrator reads `********` for each value of
    /// others; sent back, it stands for the stored value.
    #[schema(value_type = Object)]
    headers: Map<String, Value>,
    /// Values that it adds to each body; scalars.
    #[schema(value_type = Object)]
    properties: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Whose it is; only in lists of other users' webhooks.
    user: Option<&'a str>,
}

/// A webhook as clients send it. Other members are ignored.
// What is read of it is decided in `fanfare_core::registration`; this only describes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub(crate) struct WebHookRequest {
    /// Absolute, `http` or `https`.
    #[schema(rename = "WebHookUri", examples("https://receiver.example/hook?noecho"))]
    uri: String,
    /// 32 to 128 characters; when left out, a new one is made, or the present one kept.
    #[schema(rename = "Secret")]
    secret: Option<String>,
    #[schema(rename = "Description")]
    description: Option<String>,
    #[schema(rename = "IsPaused", value_type = bool, required = false)]
    is_paused: bool,
    /// `*`, `reports` or `reports.delete` forms; none means all.
    #[schema(rename = "Filters", examples("reports", "tasks.execute"))]
    filters: Option<Vec<String>>,
    /// Added to each POST.
    #[schema(rename = "Headers")]
    headers: Option<BTreeMap<String, String>>,
    /// Added to each body.
    #[schema(rename = "Properties", schema_with = properties, required = false)]
    properties: (),
}

/// Scalars by their names, or null.
fn properties() -> Object {
    let scalar = [Type::String, Type::Number, Type::Boolean, Type::Null];
    let scalar = ObjectBuilder::new().schema_type(SchemaType::from_iter(scalar));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(scalar))
        .description(Some("Added to each body."))
        .build()
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

/// As an administrator sees one of another user's: without what only its owner is to know. What is
/// read so can be sent back and changes neither.
pub(crate) fn of_another(webhook: &Webhook) -> View<'_> {
    let header = |(name, _): (&str, &str)| (name.to_owned(), Value::from(Headers::MASK));
    View { secret: None, headers: webhook.headers.iter().map(header).collect(), ..own(webhook) }
}

/// As this caller sees it.
pub(crate) fn seen_by<'a>(caller: &Caller, webhook: &'a Webhook) -> View<'a> {
    if webhook.owner == caller.name { own(webhook) } else { of_another(webhook) }
}

/// The same, among those of others.
pub(crate) fn with_user<'a>(caller: &Caller, webhook: &'a Webhook) -> View<'a> {
    View { user: Some(webhook.owner.as_str()), ..seen_by(caller, webhook) }
}
