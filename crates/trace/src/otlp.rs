//! Ended spans as OTLP has them, in JSON (the mapping of OTLP 1.x for HTTP).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use crate::{Ended, Kind, Value};

/// The body of a request to `/v1/traces`. `resource` says who sends it.
#[must_use]
pub fn request(resource: &[(&'static str, Value)], spans: &[Ended]) -> String {
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(resource) },
        "scopeSpans": [{
            "scope": { "name": "fanfare" },
            "spans": spans.iter().map(span).collect::<Vec<Json>>(),
        }],
    }] })
    .to_string()
}

fn span(ended: &Ended) -> Json {
    let kind = match ended.kind {
        Kind::Client => 3,
        Kind::Consumer => 5,
    };
    let links: Vec<Json> = ended
        .links
        .iter()
        .map(|other| json!({ "traceId": other.trace_id(), "spanId": other.span_id() }))
        .collect();
    let status = match &ended.failure {
        Some(why) => json!({ "code": 2, "message": why }),
        None => json!({}),
    };
    json!({
        "traceId": ended.context.trace_id(),
        "spanId": ended.context.span_id(),
        "parentSpanId": ended.parent.map(|id| format!("{id:016x}")).unwrap_or_default(),
        "name": ended.name,
        "kind": kind,
        "startTimeUnixNano": nanos(ended.from),
        "endTimeUnixNano": nanos(ended.until),
        "attributes": attributes(&ended.attributes),
        "links": links,
        "status": status,
    })
}

fn attributes(attributes: &[(&'static str, Value)]) -> Vec<Json> {
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": text }),
        // 64 bits are text in this mapping.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    attributes.iter().map(|(name, it)| json!({ "key": name, "value": value(it) })).collect()
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
