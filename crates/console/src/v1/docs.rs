//! `/api/docs`: the APIs described for people, made from the description for programs. The page
//! needs no script and nothing from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::OPENAPI;

const STYLE: &str = "
:root{color-scheme:light dark;background:Canvas;color:CanvasText}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
code{font-family:ui-monospace,monospace;font-size:.9em}
summary{cursor:pointer;padding:.4rem 0}
summary b{display:inline-block;min-width:4.5rem;text-transform:uppercase}
details{border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
details>div{padding:0 0 1rem 4.5rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0}
";

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'")
});

/// `GET`, of the page about a complete description.
pub(crate) fn answer(document: &Value) -> impl IntoResponse + Clone + use<> {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
    ];
    (headers, Bytes::from(page(document)))
}

/// Pieces of a page. Writing into a text does not fail.
struct Html(String);

impl Html {
    fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// A text in an element.
    fn element(&mut self, name: &str, text: &str) {
        let _ = write!(self.0, "<{name}>{}</{name}>", escaped(text));
    }

    /// A text in which backticks mark code, in an element.
    fn prose(&mut self, name: &str, text: &str) {
        let mut parts = text.split('`');
        let mut html = escaped(parts.next().unwrap_or_default());
        for (index, part) in parts.enumerate() {
            html.push_str(if index % 2 == 0 { "<code>" } else { "</code>" });
            html.push_str(&escaped(part));
        }
        let _ = write!(self.0, "<{name}>{html}</{name}>");
    }
}

fn page(document: &Value) -> String {
    let mut html = Html(String::new());
    html.raw("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width\">");
    html.raw("<title>Fanfare API</title>");
    let _ = write!(html.0, "<style>{STYLE}</style>");
    html.raw("<main><h1>Fanfare API</h1>");
    html.prose("p", text(&document["info"]["description"]));
    let _ = write!(html.0, "<p>For programs: <a href=\"{OPENAPI}\">{OPENAPI}</a>.</p>");
    html.prose(
        "p",
        "Sign in at `/Token` and bring the token as `Authorization: Bearer …`. Failures below \
         `/api/v1` are problem details (RFC 9457): go by their `type`.",
    );
    let mut heading = "";
    for (path, methods) in members(&document["paths"]) {
        for (method, operation) in members(methods) {
            let tag = text(&operation["tags"][0]);
            if tag != heading {
                html.element("h2", tag);
                heading = tag;
            }
            operation_html(&mut html, method, path, operation);
        }
    }
    html.raw("<h2>Schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        schema_html(&mut html, name, schema);
    }
    html.raw("</main></html>");
    html.0
}

fn operation_html(html: &mut Html, method: &str, path: &str, operation: &Value) {
    html.raw("<details><summary>");
    html.element("b", method);
    html.element("code", path);
    html.raw(" ");
    html.element("span", text(&operation["summary"]));
    html.raw("</summary><div>");
    html.prose("p", text(&operation["description"]));
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        html.raw("<table><tr><th>Parameter</th><th>In</th><th>What</th></tr>");
        for parameter in parameters {
            html.raw("<tr>");
            html.prose("td", &format!("`{}`", text(&parameter["name"])));
            html.element("td", text(&parameter["in"]));
            html.prose("td", text(&parameter["description"]));
            html.raw("</tr>");
        }
        html.raw("</table>");
    }
    for (_, body) in members(&operation["requestBody"]["content"]) {
        html.prose("p", &format!("Body: {}", shape(&body["schema"])));
    }
    html.raw("<table><tr><th>Answer</th><th>When</th><th>Body</th></tr>");
    for (status, response) in members(&operation["responses"]) {
        html.raw("<tr>");
        html.element("td", status);
        html.prose("td", text(&response["description"]));
        let body = members(&response["content"]).next();
        html.prose("td", &body.map(|(_, body)| shape(&body["schema"])).unwrap_or_default());
        html.raw("</tr>");
    }
    html.raw("</table></div></details>");
}

fn schema_html(html: &mut Html, name: &str, schema: &Value) {
    html.raw("<details><summary>");
    html.element("code", name);
    html.raw("</summary><div>");
    html.prose("p", text(&schema["description"]));
    html.raw("<table><tr><th>Member</th><th>Type</th><th>What</th></tr>");
    let parts = schema["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    for part in std::iter::once(schema).chain(parts) {
        for (member, property) in members(&part["properties"]) {
            html.raw("<tr>");
            html.prose("td", &format!("`{member}`"));
            html.prose("td", &shape(property));
            html.prose("td", text(&property["description"]));
            html.raw("</tr>");
        }
    }
    html.raw("</table></div></details>");
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_markup() {
        let mut html = Html(String::new());
        html.prose("p", "a `<b>` & c");
        assert_eq!(html.0, "<p>a <code>&lt;b&gt;</code> &amp; c</p>");
    }
}
