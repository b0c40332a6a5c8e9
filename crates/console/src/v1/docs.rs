//! `/api/docs`: the description of the APIs for people, rendered from the one for programs.
//!
//! The page needs no script and nothing from other hosts. A viewer such as Swagger UI has 2 MB,
//! where a page of the console has at most 150 KiB, and styles that the console's policy forbids.

use std::sync::LazyLock;

use askama::Template;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::OPENAPI;

const STYLE: &str = include_str!("../../static/api.css");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'")
});

/// Makes the answer to `GET`: the page about a complete description.
pub(crate) fn answer(document: &Value) -> impl IntoResponse + Clone + use<> {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
    ];
    (headers, Bytes::from(page(document)))
}

/// Renders the page. It is empty if rendering fails, which a test excludes.
pub(crate) fn page(document: &Value) -> String {
    Page::of(document).render().unwrap_or_default()
}

/// The template's data. Texts mark code with backticks.
#[derive(Template)]
#[template(path = "api.html")]
struct Page<'a> {
    style: &'static str,
    document: &'static str,
    about: &'a str,
    groups: Vec<Group<'a>>,
    schemas: Vec<Schema<'a>>,
}

/// The operations under one heading.
struct Group<'a> {
    tag: &'a str,
    operations: Vec<Operation<'a>>,
}

struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    summary: &'a str,
    description: &'a str,
    parameters: Vec<Parameter<'a>>,
    body: Option<String>,
    answers: Vec<Answer<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    description: &'a str,
}

struct Answer<'a> {
    status: &'a str,
    description: &'a str,
    body: String,
}

struct Schema<'a> {
    name: &'a str,
    description: &'a str,
    members: Vec<Member<'a>>,
}

struct Member<'a> {
    name: &'a str,
    shape: String,
    description: &'a str,
}

impl<'a> Page<'a> {
    fn of(document: &'a Value) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (path, operations) in members(&document["paths"]) {
            for (method, operation) in members(operations) {
                let tag = text(&operation["tags"][0]);
                let operation = Operation::of(method, path, operation);
                match groups.last_mut().filter(|group| group.tag == tag) {
                    Some(group) => group.operations.push(operation),
                    None => groups.push(Group { tag, operations: vec![operation] }),
                }
            }
        }
        let schemas = members(&document["components"]["schemas"]);
        Self {
            style: STYLE,
            document: OPENAPI,
            about: text(&document["info"]["description"]),
            groups,
            schemas: schemas.map(|(name, schema)| Schema::of(name, schema)).collect(),
        }
    }
}

impl<'a> Operation<'a> {
    fn of(method: &'a str, path: &'a str, operation: &'a Value) -> Self {
        let parameter = |parameter: &'a Value| Parameter {
            name: text(&parameter["name"]),
            place: text(&parameter["in"]),
            description: text(&parameter["description"]),
        };
        let answer = |(status, response): (&'a str, &'a Value)| Answer {
            status,
            description: text(&response["description"]),
            body: body(response).unwrap_or_default(),
        };
        Self {
            method,
            path,
            summary: text(&operation["summary"]),
            description: text(&operation["description"]),
            parameters: items(&operation["parameters"]).iter().map(parameter).collect(),
            body: body(&operation["requestBody"]),
            answers: members(&operation["responses"]).map(answer).collect(),
        }
    }
}

impl<'a> Schema<'a> {
    fn of(name: &'a str, schema: &'a Value) -> Self {
        let member = |(name, property): (&'a str, &'a Value)| Member {
            name,
            shape: shape(property),
            description: text(&property["description"]),
        };
        let parts = std::iter::once(schema).chain(items(&schema["allOf"]));
        Self {
            name,
            description: text(&schema["description"]),
            members: parts.flat_map(|part| members(&part["properties"])).map(member).collect(),
        }
    }
}

/// The schema of a body in a few words.
fn body(described: &Value) -> Option<String> {
    members(&described["content"]).next().map(|(_, content)| shape(&content["schema"]))
}

/// A schema in a few words.
fn shape(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return format!("`{}`", reference.rsplit('/').next().unwrap_or_default());
    }
    if let Some(either) = schema["oneOf"].as_array() {
        return either.iter().map(shape).collect::<Vec<_>>().join(" or ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind).to_owned(),
    };
    let items = &schema["items"];
    let items = if items.is_null() { &schema["properties"]["items"]["items"] } else { items };
    match kind.as_str() {
        "array" => format!("array of {}", shape(items)),
        "object" if !items.is_null() => format!("page of {}", shape(items)),
        _ => kind,
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_escaped() {
        let page = page(&json!({ "info": { "description": "a `<b>` & c" } }));
        assert!(page.contains("<p>a <code>&#60;b&#62;</code> &#38; c</p>"), "{page}");
    }
}
