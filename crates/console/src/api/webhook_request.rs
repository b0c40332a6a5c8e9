//! The body with which clients register a webhook, for the API's description.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

/// A webhook as clients send it. Other members are ignored.
// Only the API's description uses this type. `fanfare_core::registration` reads the body.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub(crate) struct WebHookRequest {
    /// The address of the receiver: an absolute URL with `http` or `https`.
    #[schema(rename = "WebHookUri", examples("https://receiver.example/hook?noecho"))]
    uri: String,
    /// 32 to 128 characters. When it is left out, a new secret is generated, or the present one is
    /// kept.
    #[schema(rename = "Secret")]
    secret: Option<String>,
    #[schema(rename = "Description")]
    description: Option<String>,
    #[schema(rename = "IsPaused", value_type = bool, required = false)]
    is_paused: bool,
    /// The events that the webhook gets: `*`, a filter such as `reports`, or a filter and an action
    /// such as `reports.delete`. No filter means all events.
    #[schema(rename = "Filters", examples("reports", "tasks.execute"))]
    filters: Option<Vec<String>>,
    /// Headers that are added to each POST.
    #[schema(rename = "Headers")]
    headers: Option<BTreeMap<String, String>>,
    /// Properties that are added to each body.
    #[schema(rename = "Properties", schema_with = properties, required = false)]
    properties: (),
}

/// The schema of properties: scalars by their names, or `null`.
fn properties() -> Object {
    let scalar = [Type::String, Type::Number, Type::Boolean, Type::Null];
    let scalar = ObjectBuilder::new().schema_type(SchemaType::from_iter(scalar));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(scalar))
        .description(Some("Properties that are added to each body."))
        .build()
}
