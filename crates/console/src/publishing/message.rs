//! The message of a request: what a publisher on AMQP would send (HTTP Protocol Binding for
//! `CloudEvents` 1.0.2, section 3).
//!
//! The body stays as it is. The attributes of binary mode, which are headers `ce-…`, become headers
//! of the message. Names of HTTP headers have no case, so `ce-accessRevision` is `accessrevision`
//! and counts as that.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use fanfare_broker::Message;
use fanfare_core::reject::{Reason, Reject};
use fanfare_core::traceparent;
use percent_encoding::percent_decode;

use super::problem::Problem;

/// The prefix of the headers that are attributes.
const PREFIX: &str = "ce-";
const TRACEPARENT: &str = "traceparent";
/// The most bytes of a property that is a short text in AMQP.
const LONGEST_PROPERTY: usize = 255;

/// Translates a request.
pub(super) fn read(headers: &HeaderMap, body: Vec<u8>) -> Result<Message, Problem> {
    let mut message = Message { body: body.into(), ..Message::default() };
    message.content_type = property(headers, &header::CONTENT_TYPE)?;
    message.properties.content_encoding = property(headers, &header::CONTENT_ENCODING)?;
    if let Some(text) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok())
        && traceparent::is_valid(text)
    {
        message.headers.set(TRACEPARENT, text);
    }
    if !message.as_event().names_event_format() {
        let is_binary = add_attributes(&mut message, headers)?;
        let content_type = message.content_type.as_deref().unwrap_or_default();
        if !is_binary && !is_json(content_type) {
            return Err(Problem::media_type());
        }
    }
    message.as_event().check_form().map_err(Problem::UnsupportedForm)?;
    Ok(message)
}

/// Adds the attributes of binary mode. Returns whether there is one.
fn add_attributes(message: &mut Message, headers: &HeaderMap) -> Result<bool, Problem> {
    let mut is_binary = false;
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
        let text = attribute(name, value).map_err(Problem::Refused)?;
        message.headers.add_attribute(name, text).map_err(Problem::Refused)?;
        is_binary = true;
    }
    Ok(is_binary)
}

/// The value of an attribute: without quotes, and percent-decoded once (section 3.1.3.2).
fn attribute(name: &str, value: &HeaderValue) -> Result<String, Reject> {
    let decoded = percent_decode(&unquoted(value.as_bytes())).collect();
    String::from_utf8(decoded).map_err(|_| {
        let detail = format!("the header {PREFIX}{name} is not UTF-8 when it is percent-decoded");
        Reject::new(Reason::NotCloudEvents, detail)
    })
}

/// Removes the quotes and backslashes of a quoted string (RFC 9110, section 5.6.4), which earlier
/// versions of the binding allowed.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else { return value.to_vec() };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let escaped = if *byte == b'\\' { bytes.next() } else { None };
        text.push(*escaped.unwrap_or(byte));
    }
    text
}

/// A header that becomes a property of the message.
fn property(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= LONGEST_PROPERTY);
    text.map(|text| Some(text.to_owned())).ok_or_else(Problem::media_type)
}

/// Whether a content type is that of JSON. A body without a content type may be JSON.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    matches!(media_type.as_str(), "" | "application/json" | "text/json")
        || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::event::AttributeValue;

    fn headers(of: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static [u8])| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in of.iter().map(header) {
            headers.append(name, value);
        }
        headers
    }

    #[track_caller]
    fn check_value(value: &'static [u8], expected: &str) {
        let message = read(&headers(&[("ce-id", value)]), b"{}".to_vec()).unwrap();
        let expected = AttributeValue::Text(expected.to_owned());
        assert_eq!(message.as_event().attributes, [("id", expected)]);
    }

    #[test]
    fn a_header_is_decoded_as_the_binding_says() {
        check_value(b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀");
        check_value(b"%48%69", "Hi");
        check_value(b"a%2520b", "a%20b");
        check_value(b"\"a \\\"b\\\\ %41\"", "a \"b\\ A");
        check_value("plain ä".as_bytes(), "plain ä");
        check_value(b"100%", "100%");
        check_value(b"a\"b", "a\"b");
        check_value(b"", "");
    }

    #[test]
    fn a_header_that_is_not_utf8_is_refused() {
        for value in [&b"%C0%A0"[..], b"%ff", b"\xff"] {
            let problem = read(&headers(&[("ce-id", value)]), Vec::new()).unwrap_err();
            let is_so = matches!(&problem, Problem::Refused(reject) if reject.reason == Reason::NotCloudEvents);
            assert!(is_so, "{problem:?}");
        }
    }

    #[test]
    fn names_have_no_case_and_occur_once() {
        let message = read(&headers(&[("CE-AccessRevision", b"7")]), b"{}".to_vec()).unwrap();
        let attributes = message.as_event().attributes;
        assert_eq!(attributes, [("accessrevision", AttributeValue::Text("7".to_owned()))]);
        let twice = headers(&[("ce-accessrevision", b"7"), ("ce-accessRevision", b"8")]);
        let problem = read(&twice, b"{}".to_vec()).unwrap_err();
        assert!(
            matches!(&problem, Problem::Refused(reject) if reject.detail.contains("more than once"))
        );
    }

    #[test]
    fn a_structured_event_has_no_attributes_in_headers() {
        let structured = ("content-type", &b"application/cloudevents+json; charset=UTF-8"[..]);
        let message = read(&headers(&[structured, ("ce-id", b"%ff")]), b"{}".to_vec()).unwrap();
        assert!(message.as_event().attributes.is_empty());
        assert_eq!(
            message.content_type.as_deref(),
            Some("application/cloudevents+json; charset=UTF-8")
        );
    }

    #[test]
    fn only_forms_that_routers_read_are_accepted() {
        for content_type in
            ["", "application/json", "text/json;charset=utf-8", "application/x+JSON"]
        {
            assert!(is_json(content_type), "{content_type}");
        }
        for of in [
            &[("content-type", &b"application/x-www-form-urlencoded"[..])][..],
            &[("content-type", b"application/cloudevents+avro")],
            &[("content-type", b"application/cloudevents+json; charset=utf-16")],
            &[("content-type", b"application/json"), ("content-encoding", b"gzip")],
            &[("content-type", b"\xff")],
        ] {
            let problem = read(&headers(of), b"{}".to_vec()).unwrap_err();
            let is_so = matches!(problem, Problem::MediaType(_) | Problem::UnsupportedForm(_));
            assert!(is_so, "{problem:?}");
        }
    }

    #[test]
    fn only_a_valid_trace_context_is_passed_on() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |value: &'static str| {
            let message = read(&headers(&[("traceparent", value.as_bytes())]), b"{}".to_vec());
            message.unwrap().headers.text("traceparent").map(str::to_owned)
        };
        assert_eq!(of(valid).as_deref(), Some(valid));
        assert_eq!(of("00-0-0-0"), None);
    }
}
