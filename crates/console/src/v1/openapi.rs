//! `/api/openapi.json`: the APIs described for programs (`OpenAPI` 3.1).
//!
//! Schemas come from the types that answers are written from and bodies read into; operations
//! from [`super::operations`].

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::operations::{OPERATIONS, Operation, Parameter, Shape, Success};
use super::{BASE, dead_letters, deliveries, problem, resends, statistics, view, webhooks};
use crate::api::{filters, json::json as answer, token, view as api_view};

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// `GET`.
pub(crate) async fn show() -> Response {
    answer(StatusCode::OK, &*DOCUMENT)
}

/// The description.
pub(crate) fn described() -> &'static Value {
    &DOCUMENT
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_owned(), described_operation(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fanfare",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Webhooks of a report server: the drop-in API as the report server had \
                            it, and the API about deliveries, events, dead letters and statistics.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn described_operation(operation: &Operation) -> Value {
    let mut described = json!({
        "tags": [operation.tag],
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if let Some(described) = described.as_object_mut() {
        if !operation.about.is_empty() {
            described.insert("description".to_owned(), operation.about.into());
        }
        if let Some(body) = operation.body {
            described.insert("requestBody".to_owned(), request_body(body));
        }
        if is_sign_in(operation) {
            described.insert("security".to_owned(), json!([]));
        }
    }
    described
}

/// Such as `get-deliveries-id`.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.trim_start_matches(BASE).trim_start_matches("/api/webhooks");
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    let words: Vec<&str> = [operation.method].into_iter().chain(words).collect();
    words.join("-").to_ascii_lowercase()
}

fn is_sign_in(operation: &Operation) -> bool {
    operation.path == "/Token"
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let id = json!({
        "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
    });
    let query = operation.query.iter().map(parameter);
    operation.path.contains("{id}").then_some(id).into_iter().chain(query).collect()
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        "date-time" => json!({ "type": "string", "format": "date-time" }),
        kind => json!({ "type": kind }),
    };
    let Parameter { name, about, .. } = parameter;
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

fn request_body(schema: &str) -> Value {
    let content_type = match schema {
        "TokenRequest" => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    json!({ "required": true, "content": { (content_type): { "schema": reference(schema) } } })
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let Success { status, about, shape } = &operation.success;
    let mut responses = Map::new();
    responses.insert(status.to_string(), success(about, shape));
    let of_all: &[u16] = if is_sign_in(operation) { &[503] } else { &[401, 503] };
    let of_bodies: &[u16] = if operation.body.is_some() { &[413] } else { &[] };
    for status in operation.failures.iter().chain(of_all).chain(of_bodies) {
        responses.insert(status.to_string(), failure(operation, *status));
    }
    responses
}

fn success(about: &str, shape: &Shape) -> Value {
    let items = |schema: &str| json!({ "type": "array", "items": reference(schema) });
    let schema = match shape {
        Shape::Empty => return json!({ "description": about }),
        Shape::One(schema) => reference(schema),
        Shape::Array(schema) => items(schema),
        Shape::Page(schema) => json!({
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": items(schema),
                "next": {
                    "type": ["string", "null"],
                    "description": "The cursor of the next page; null on the last one.",
                },
            },
        }),
        Shape::Found(schema) => json!({
            "type": "object",
            "required": ["items", "complete"],
            "properties": {
                "items": items(schema),
                "complete": { "type": "boolean", "description": "Whether there is nothing more." },
                "next": {
                    "type": "string",
                    "description": "Where to go on, while there may be more.",
                },
            },
        }),
    };
    json!({ "description": about, "content": { "application/json": { "schema": schema } } })
}

fn failure(operation: &Operation, status: u16) -> Value {
    let about = match status {
        400 => "The request is invalid.",
        401 => "Nobody is signed in.",
        403 => "It is for System Administrators.",
        404 => "There is no such thing for the caller.",
        409 => "It can't be done as things stand.",
        413 => "The body is too large: it has at most 1 MiB.",
        429 => "There were too many tries.",
        _ => "The database or the broker is away.",
    };
    if !operation.path.starts_with(BASE) {
        return json!({ "description": about });
    }
    let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
    json!({ "description": about, "content": content })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn schemas() -> Map<String, Value> {
    let mut found = Vec::new();
    add::<view::delivery::Json<'_>>(&mut found);
    add::<view::event::Json<'_>>(&mut found);
    add::<view::explanation::Json<'_>>(&mut found);
    add::<view::dead_letter::Json<'_>>(&mut found);
    add::<statistics::Json<'_>>(&mut found);
    add::<deliveries::Retried>(&mut found);
    add::<webhooks::Shown>(&mut found);
    add::<webhooks::WebhookChange>(&mut found);
    add::<webhooks::Tested>(&mut found);
    add::<webhooks::Rotation>(&mut found);
    add::<webhooks::Rotated>(&mut found);
    add::<resends::RetriedFailed>(&mut found);
    add::<resends::Progress>(&mut found);
    add::<dead_letters::Meant>(&mut found);
    add::<dead_letters::Taken>(&mut found);
    add::<problem::Body>(&mut found);
    add::<api_view::View<'_>>(&mut found);
    add::<filters::Described>(&mut found);
    add::<token::Granted<'_>>(&mut found);
    let mut schemas: Map<String, Value> = found
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
        .map(|(name, schema)| (name, with_optional_parts(schema)))
        .collect();
    schemas.insert("TokenRequest".to_owned(), token_request());
    schemas.insert("WebHookRequest".to_owned(), webhook_request());
    schemas
}

/// A part whose members stand beside the others', or are not there at all, is derived as the part
/// or null; what is without it is an object all the same.
fn with_optional_parts(mut schema: Value) -> Value {
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        if let Some(reference) = part.pointer("/oneOf/0/$ref").cloned() {
            *part = json!({ "anyOf": [{ "$ref": reference }, { "type": "object" }] });
        }
    }
    schema
}

/// A schema and those that it refers to.
fn add<T: ToSchema>(found: &mut Vec<(String, RefOr<Schema>)>) {
    found.push((T::name().into_owned(), T::schema()));
    T::schemas(found);
}

fn token_request() -> Value {
    json!({
        "type": "object",
        "required": ["grant_type", "username", "password"],
        "properties": {
            "grant_type": { "type": "string", "const": "password" },
            "username": { "type": "string" },
            "password": { "type": "string" },
        },
    })
}

/// What a webhook is made from; members that are not told are ignored.
fn webhook_request() -> Value {
    let text_or_null = json!(["string", "null"]);
    json!({
        "type": "object",
        "required": ["WebHookUri"],
        "properties": {
            "WebHookUri": {
                "type": "string",
                "description": "Absolute, `http` or `https`.",
                "examples": ["https://receiver.example/hook?noecho"],
            },
            "Secret": {
                "type": text_or_null,
                "description": "32 to 128 characters; when left out, a new one is made, or the \
                                present one kept.",
            },
            "Description": { "type": text_or_null },
            "IsPaused": { "type": "boolean" },
            "Filters": {
                "type": ["array", "null"],
                "items": { "type": "string" },
                "description": "`*`, `reports` or `reports.delete` forms; none means all.",
                "examples": [["reports", "tasks.execute"]],
            },
            "Headers": {
                "type": ["object", "null"],
                "additionalProperties": { "type": "string" },
                "description": "Added to each POST.",
            },
            "Properties": {
                "type": ["object", "null"],
                "additionalProperties": {
                    "type": ["string", "number", "boolean", "null"],
                },
                "description": "Added to each body.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts under `$ref`.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn whatever_is_referred_to_is_there() {
        let document = described();
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn each_operation_has_a_name_of_its_own() {
        let mut ids: Vec<String> = OPERATIONS.iter().map(operation_id).collect();
        ids.sort();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
    }
}
