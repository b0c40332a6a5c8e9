//! The headers of a POST. Notifications are signed here and nowhere else.

use chrono::{DateTime, Utc};

use crate::ids::DeliveryId;
use crate::signature::{
    MS_SIGNATURE, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, ms_signature, webhook_signature,
};
use crate::webhook::{Headers, Secret};

/// A notification with its body, before it is signed.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedRequest<'a> {
    /// The webhook's own headers.
    pub own: &'a Headers,
    /// The secrets that sign, the newest first.
    pub secrets: &'a [Secret],
    /// The delivery's id, as in the body.
    pub id: DeliveryId,
    /// When the attempt is made.
    pub at: DateTime<Utc>,
    /// The trace that the receiver continues.
    pub traceparent: Option<&'a str>,
    /// The bytes that are sent.
    pub body: &'a [u8],
}

impl UnsignedRequest<'_> {
    /// Returns the webhook's own headers, then those of the service, in the order in which they are
    /// sent. The names never collide, because [`Headers`] refuses the names of the service.
    #[must_use]
    pub fn sign(&self) -> Vec<(String, String)> {
        let timestamp = self.at.timestamp();
        let ms = self.secrets.first().map(|newest| ms_signature(newest, self.body));
        let standard = webhook_signature(self.secrets, self.id, timestamp, self.body);
        let service = [
            ("content-type", Some("application/json; charset=utf-8".to_owned())),
            (MS_SIGNATURE, ms),
            (WEBHOOK_ID, Some(self.id.to_string())),
            (WEBHOOK_TIMESTAMP, Some(timestamp.to_string())),
            (WEBHOOK_SIGNATURE, Some(standard)),
            ("traceparent", self.traceparent.map(str::to_owned)),
        ];
        let mut headers = self.own.as_slice().to_vec();
        let service =
            service.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        headers.extend(service);
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = include_bytes!("../vectors/v5-as-v2-but-compact.body");
    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn signed(own: &Headers, secrets: &[&str], traceparent: Option<&str>) -> Vec<(String, String)> {
        let secrets: Vec<Secret> = secrets.iter().map(|text| text.parse().unwrap()).collect();
        let request = UnsignedRequest {
            own,
            secrets: &secrets,
            id: "6d2f6f0b7c1e4c0c9a4f2b8d3e5a7c91".parse().unwrap(),
            at: DateTime::from_timestamp_nanos(1_700_000_000_999_999_999),
            traceparent,
            body: BODY,
        };
        request.sign()
    }

    /// `ms-signature` is from the shared vector; `webhook-signature` was computed with Python's
    /// `hmac`.
    #[test]
    fn headers_during_a_rotation_are_exactly_these_in_this_order() {
        let own = [("X-Own", "a"), ("user-agent", "b")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = signed(
            &Headers::parse(own).unwrap(),
            &["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"],
            Some(TRACEPARENT),
        );
        let expected = [
            ("X-Own", "a"),
            ("user-agent", "b"),
            ("content-type", "application/json; charset=utf-8"),
            (
                "ms-signature",
                "sha256=67355CC88F44D1A6FFC4F2C13A6521F7D71C20A750B309C97C24C86440336B5B",
            ),
            ("webhook-id", "6d2f6f0b7c1e4c0c9a4f2b8d3e5a7c91"),
            ("webhook-timestamp", "1700000000"),
            (
                "webhook-signature",
                "v1,JyyYqDBfdzsjpzavNc1gMlZ+WWKPFWPrkyk1YADNdxM= \
                 v1,RBy/Um8vFec9JTcKu8TAz0x6sDZgVBxeZTuHGqaz/qY=",
            ),
            ("traceparent", TRACEPARENT),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn headers_without_a_trace_have_no_traceparent() {
        let own = Headers::default();
        let headers = signed(&own, &["0123456789abcdef0123456789abcdef"], None);
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["content-type", MS_SIGNATURE, WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE]
        );
    }
}
