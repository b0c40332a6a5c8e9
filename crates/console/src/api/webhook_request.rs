//! What clients send to register a webhook, for the API's description.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

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
