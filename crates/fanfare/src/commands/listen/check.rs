//! Checks a POST as a receiver should: both signatures, the timestamp, and the body's form.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use fanfare_core::json;
use fanfare_core::signature::{
    MS_SIGNATURE, TOLERANCE_S, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    verify_ms_signature, verify_webhook_signature,
};
use fanfare_core::webhook::Secret;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A POST with the results of its checks.
#[derive(Debug, Default)]
pub(super) struct Post {
    /// The body's size, in bytes.
    pub(super) bytes: usize,
    /// The delivery's id, from the body.
    pub(super) id: Option<String>,
    /// The number of the attempt.
    pub(super) attempt: Option<i64>,
    /// Whether `ms-signature` is right; `None` when it could not be checked.
    pub(super) ms_signature: Option<bool>,
    /// Whether `webhook-signature` is right; `None` when it could not be checked.
    pub(super) webhook_signature: Option<bool>,
    /// Whether `webhook-timestamp` is within the tolerance; `None` if it is missing.
    pub(super) timestamp: Option<bool>,
    /// The webhook's properties, as compact JSON.
    pub(super) properties: Option<String>,
    /// The notifications, as compact JSON.
    pub(super) notifications: Vec<String>,
    /// The problems, for a person.
    pub(super) problems: Vec<String>,
    /// Whether a receiver must not trust the POST.
    pub(super) forged: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Form<'a> {
    id: String,
    attempt: i64,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    notifications: Vec<&'a RawValue>,
}

impl Post {
    /// Checks a POST; without a secret, only its form.
    pub(super) fn new(
        headers: &HeaderMap,
        body: &[u8],
        secret: Option<&Secret>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut post = Self { bytes: body.len(), ..Self::default() };
        post.read_body(body);
        if let Some(secret) = secret {
            let before = post.problems.len();
            post.check_ms_signature(headers, body, secret);
            post.check_webhook_signature(headers, body, secret, now);
            post.forged = post.problems.len() > before;
        }
        post
    }

    fn read_body(&mut self, body: &[u8]) {
        match serde_json::from_slice::<Form<'_>>(body) {
            Ok(form) => {
                self.id = Some(form.id);
                self.attempt = Some(form.attempt);
                self.properties = form.properties.map(json::compact);
                self.notifications = form.notifications.into_iter().map(json::compact).collect();
            }
            Err(error) => self.problems.push(format!("the body is not a notification: {error}")),
        }
    }

    fn check_ms_signature(&mut self, headers: &HeaderMap, body: &[u8], secret: &Secret) {
        let Some(value) = self.single(headers, MS_SIGNATURE) else {
            return;
        };
        let right = verify_ms_signature(secret, body, &value);
        self.ms_signature = Some(right);
        if !right {
            self.problems.push(mismatch(MS_SIGNATURE));
        }
    }

    fn check_webhook_signature(
        &mut self,
        headers: &HeaderMap,
        body: &[u8],
        secret: &Secret,
        now: DateTime<Utc>,
    ) {
        let id = self.single(headers, WEBHOOK_ID);
        let timestamp = self.single(headers, WEBHOOK_TIMESTAMP);
        let signature = self.single(headers, WEBHOOK_SIGNATURE);
        let (Some(id), Some(timestamp), Some(signature)) = (id, timestamp, signature) else {
            return;
        };
        let right = verify_webhook_signature(secret, &id, &timestamp, body, &signature);
        self.webhook_signature = Some(right);
        if !right {
            self.problems.push(mismatch(WEBHOOK_SIGNATURE));
        }
        if self.id.as_ref().is_some_and(|own| *own != id) {
            self.problems.push(format!("{WEBHOOK_ID} is not the body's Id"));
        }
        self.check_timestamp(&timestamp, now);
    }

    fn check_timestamp(&mut self, text: &str, now: DateTime<Utc>) {
        let age = text.parse::<i64>().ok().map(|sent| now.timestamp().saturating_sub(sent));
        let near = age.is_some_and(|age| age.unsigned_abs() <= TOLERANCE_S.unsigned_abs());
        self.timestamp = Some(near);
        match age {
            None => self.problems.push(format!("{WEBHOOK_TIMESTAMP} is not a number of seconds")),
            Some(age) if !near => self.problems.push(format!(
                "{WEBHOOK_TIMESTAMP} is {} s {} our clock; at most {TOLERANCE_S} s are accepted",
                age.unsigned_abs(),
                if age > 0 { "behind" } else { "ahead of" },
            )),
            Some(_) => {}
        }
    }

    /// The value of a header that must occur exactly once.
    fn single(&mut self, headers: &HeaderMap, name: &str) -> Option<String> {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok()).map(str::to_owned);
        if value.is_none() {
            self.problems.push(format!("{name} is missing"));
        } else if values.next().is_some() {
            self.problems.push(format!("{name} occurs more than once"));
            return None;
        }
        value
    }
}

fn mismatch(name: &str) -> String {
    format!("{name} does not match: the secret is different, or the body was changed in transit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use fanfare_core::signature::{ms_signature, webhook_signature};

    const ID: &str = "0f8fad5bd9cb469fa16570867728950e";
    const BODY: &str = r#"{"Id":"0f8fad5bd9cb469fa16570867728950e","Attempt":2,"Properties":{ "a": 1 },"Notifications":[{"Action":"tasks", "N":1.50}]}"#;

    fn secret() -> Secret {
        "0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn signed(at: i64) -> HeaderMap {
        let signature = webhook_signature(&[secret()], ID.parse().unwrap(), at, BODY.as_bytes());
        let pairs = [
            (MS_SIGNATURE, ms_signature(&secret(), BODY.as_bytes())),
            (WEBHOOK_ID, ID.to_owned()),
            (WEBHOOK_TIMESTAMP, at.to_string()),
            (WEBHOOK_SIGNATURE, signature),
        ];
        let header = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
        };
        pairs.into_iter().map(header).collect()
    }

    fn check(headers: &HeaderMap, body: &str) -> Post {
        Post::new(headers, body.as_bytes(), Some(&secret()), now())
    }

    #[test]
    fn valid_post_has_no_problems() {
        let post = check(&signed(1_799_999_800), BODY);
        assert_eq!(post.problems, Vec::<String>::new());
        assert!(!post.forged);
        assert_eq!((post.ms_signature, post.webhook_signature), (Some(true), Some(true)));
        assert_eq!((post.id.as_deref(), post.attempt), (Some(ID), Some(2)));
        assert_eq!(post.notifications, [r#"{"Action":"tasks","N":1.50}"#]);
        assert_eq!(post.properties.as_deref(), Some(r#"{"a":1}"#));
    }

    #[test]
    fn changed_body_matches_neither_signature() {
        let post = check(&signed(1_800_000_000), &BODY.replace("tasks", "taskz"));
        assert!(post.forged);
        assert_eq!((post.ms_signature, post.webhook_signature), (Some(false), Some(false)));
        assert_eq!(post.timestamp, Some(true));
    }

    #[test]
    fn old_or_future_timestamp_is_refused() {
        for (at, words) in [(1_799_999_699, "301 s behind"), (1_800_000_301, "301 s ahead of")] {
            let post = check(&signed(at), BODY);
            assert!(post.forged);
            assert_eq!((post.webhook_signature, post.timestamp), (Some(true), Some(false)));
            assert!(post.problems[0].contains(words), "{:?}", post.problems);
        }
    }

    #[test]
    fn missing_or_repeated_headers_are_refused() {
        for name in [MS_SIGNATURE, WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
            let mut headers = signed(1_800_000_000);
            let value = headers.remove(name).unwrap();
            let post = check(&headers, BODY);
            assert!(post.forged);
            assert_eq!(post.problems, [format!("{name} is missing")]);
            headers.append(name, value.clone());
            headers.append(name, value);
            assert_eq!(check(&headers, BODY).problems, [format!("{name} occurs more than once")]);
        }
    }

    #[test]
    fn webhook_id_that_differs_from_the_body_is_refused() {
        let mut headers = signed(1_800_000_000);
        headers.insert(WEBHOOK_ID, HeaderValue::from_static("another"));
        assert!(check(&headers, BODY).problems.iter().any(|text| text.contains("body's Id")));
    }

    #[test]
    fn post_without_a_secret_is_not_marked_as_forged() {
        let post = Post::new(&HeaderMap::new(), b"hello", None, now());
        assert!(!post.forged);
        assert_eq!(post.ms_signature, None);
        assert!(post.problems[0].starts_with("the body is not a notification"));
    }
}
