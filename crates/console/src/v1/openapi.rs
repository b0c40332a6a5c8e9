//! `/api/openapi.json`: the description of the APIs for programs (`OpenAPI` 3.1).
//!
//! Each handler has its description as an attribute, and the router collects them. [`complete`]
//! adds the parts that all operations share.

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use fanfare_app::json::{audit, notice};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::{BASE, problem};

/// The description without operations.
pub(crate) fn outline() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(
            title = "Fanfare",
            description = "Webhooks of a report server: the drop-in API as the report server had \
                           it, and the API about deliveries, events, dead letters, operations, notices, \
                           statistics, the audit trail and storage.",
            license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        ),
        servers((url = "/")),
        security(("bearer" = [])),
        components(schemas(problem::Body, audit::Json<'static>, notice::Json<'static>)),
    )]
    struct Outline;
    <Outline as utoipa::OpenApi>::openapi()
}

/// Makes the answer to `GET`: a complete description.
pub(crate) fn answer(document: &Value) -> impl IntoResponse + Clone + use<> {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (headers, Bytes::from(document.to_string()))
}

/// Adds to each operation its name, the parameters of its path and the failures that every
/// operation has, and describes each failure.
pub(crate) fn complete(description: &OpenApi) -> Value {
    let mut document = serde_json::to_value(description).unwrap_or_default();
    for (path, operations) in members(&mut document["paths"]) {
        for (method, operation) in members(operations) {
            complete_operation(path, method, operation);
        }
    }
    for (_, schema) in members(&mut document["components"]["schemas"]) {
        mark_optional_parts(schema);
    }
    let bearer = json!({ "type": "http", "scheme": "bearer" });
    document["components"]["securitySchemes"] = json!({ "bearer": bearer, "publisher": bearer });
    document
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    operation["operationId"] = operation_id(path, method).into();
    let summary = operation["summary"].as_str().unwrap_or_default().trim_end_matches('.');
    operation["summary"] = summary.to_owned().into();
    // The description is a doc comment, whose lines are wrapped.
    if let Some(text) = operation["description"].as_str().map(|text| text.replace('\n', " ")) {
        operation["description"] = text.into();
    }
    if path.contains("{id}") {
        let id = json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
        });
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        operation["parameters"] = [vec![id], parameters].concat().into();
    }
    let is_open = operation.get("security").is_some();
    let has_body = operation.get("requestBody").is_some();
    let of_all = [(401, !is_open), (413, has_body), (503, true)];
    for (status, _) in of_all.into_iter().filter(|(_, is_possible)| *is_possible) {
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            *response = json!({});
        }
    }
    for (status, response) in members(&mut operation["responses"]) {
        if response.get("description").is_none() {
            *response = failure(status, path.starts_with(BASE));
        }
    }
}

/// Makes a name such as `get-deliveries-id`.
fn operation_id(path: &str, method: &str) -> String {
    let path = path.trim_start_matches(BASE).trim_start_matches("/api/webhooks");
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    let words: Vec<&str> = [method].into_iter().chain(words).collect();
    words.join("-").to_ascii_lowercase()
}

fn failure(status: &str, has_problem: bool) -> Value {
    let about = match status {
        "400" => "The request is invalid.",
        "401" => "The request is not signed in.",
        "403" => "Only a System Administrator may do this.",
        "404" => "The resource does not exist for the caller.",
        "409" => "The present state of the resource does not allow this.",
        "413" => "The body is larger than 1 MiB.",
        "429" => "There were too many requests.",
        _ => "The database or the broker can't be reached.",
    };
    if !has_problem {
        return json!({ "description": about });
    }
    let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    json!({ "description": about, "content": { "application/problem+json": problem } })
}

/// Describes optional flattened parts. `utoipa` derives such a part as the part or `null`, but a
/// value without it is still an object.
fn mark_optional_parts(schema: &mut Value) {
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        if let Some(reference) = part.pointer("/oneOf/0/$ref").or(part.pointer("/oneOf/1/$ref")) {
            *part = json!({ "anyOf": [{ "$ref": reference }, { "type": "object" }] });
        }
    }
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flat_map(Map::iter_mut)
}
