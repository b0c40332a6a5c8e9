//! The part of a refused token that is logged: its issuer, its audience and its algorithm.
//!
//! None of it is verified. Nothing else of a token is logged, because a reader of the log could use
//! it.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The longest value that is logged, in characters.
const LONGEST: usize = 200;
/// The maximum number of values of a list that are logged.
const MOST: usize = 5;

/// The unverified issuer, audience and algorithm of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenSummary {
    /// Its `iss`.
    pub(crate) issuer: LogValue,
    /// Its `aud`.
    pub(crate) audience: LogValue,
    /// Its `alg`.
    pub(crate) algorithm: LogValue,
}

/// A value that is cut to fit into a line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogValue(String);

impl fmt::Display for LogValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogValue {
    /// Makes a value of an untrusted text.
    pub(crate) fn text(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
    }

    fn of(part: Option<&Map<String, Value>>, name: &str) -> Self {
        let Some(part) = part else { return Self("unreadable".to_owned()) };
        match part.get(name) {
            None | Some(Value::Null) => Self("none".to_owned()),
            Some(Value::String(text)) => Self::text(text),
            Some(Value::Array(values)) => {
                let texts: Vec<&str> = values.iter().filter_map(Value::as_str).take(MOST).collect();
                Self::text(&format!("[{}]", texts.join(", ")))
            }
            Some(_) => Self("not a text".to_owned()),
        }
    }
}

impl TokenSummary {
    /// Reads the parts of a token that can be read.
    pub(crate) fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(read);
        let header = parts.next().flatten();
        let claims = parts.next().flatten();
        Self {
            issuer: LogValue::of(claims.as_ref(), "iss"),
            audience: LogValue::of(claims.as_ref(), "aud"),
            algorithm: LogValue::of(header.as_ref(), "alg"),
        }
    }
}

fn read(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(header: &Value, claims: &Value, expected: [&str; 3]) {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let stated = TokenSummary::of(&format!("{}.{}.x", part(header), part(claims)));
        let shown = [stated.issuer, stated.audience, stated.algorithm].map(|it| it.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn logged_values_of_a_token_are_bounded() {
        let alg = json!({ "alg": "HS256" });
        check(
            &alg,
            &json!({ "iss": "https://a", "aud": "b", "sub": "c" }),
            ["https://a", "b", "HS256"],
        );
        check(
            &json!({}),
            &json!({ "iss": 5, "aud": ["a", 1, "b"] }),
            ["not a text", "[a, b]", "none"],
        );
        check(&alg, &json!({ "iss": "a\nb", "aud": [] }), ["ab", "[]", "HS256"]);
        let long = "x".repeat(1000);
        let shown = "x".repeat(LONGEST);
        check(&alg, &json!({ "iss": long, "aud": null }), [shown.as_str(), "none", "HS256"]);
        let stated = TokenSummary::of("no token");
        assert_eq!(stated.issuer.to_string(), "unreadable");
    }
}
