//! Webhooks: the subscriptions of users.
//!
//! Each part of a webhook has its own type, which accepts only values that can be sent in a
//! request. The error of its parser is the text that the user sees.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use url::{Position, Url};

use crate::filter::Filters;
use crate::ids::WebhookId;
use crate::name::Name;

/// A webhook, whole.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub id: WebhookId,
    /// The user whose webhook it is. It gets only events about resources that this user may read.
    pub owner: Name,
    /// The address that its notifications are sent to.
    pub uri: WebhookUri,
    /// The secrets that sign, the newest first; more than one during a rotation.
    pub secrets: Vec<Secret>,
    /// The owner's description.
    pub description: Option<String>,
    /// Whether it is paused, so that it gets no notifications.
    pub paused: bool,
    /// Why the service paused it; `None` if its owner did.
    pub paused_reason: Option<PauseReason>,
    /// The events that it subscribes to.
    pub filters: Filters,
    /// Its own headers, which are added to each POST.
    pub headers: Headers,
    /// Its own values, which are added to each body.
    pub properties: Properties,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The time since which every retry has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// The most attempts a minute, over all workers.
    pub rate_limit: Option<u32>,
    /// The limits that its receiver has set.
    pub pacing: Pacing,
    /// Whether what happens while it is paused is sent when it is resumed; otherwise it is dropped.
    pub hold: bool,
    /// The time since which it is paused and holds.
    pub held_since: Option<DateTime<Utc>>,
}

/// The rate that a receiver accepts, as of the time when the webhook was read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pacing {
    /// The time before which no attempt begins; it may be in the past.
    pub hold_until: Option<DateTime<Utc>>,
    /// The seconds between attempts, as learned from the receiver's refusals.
    pub interval: Option<f64>,
}

impl Pacing {
    /// The end of the hold; `None` if there is no hold at `now`.
    #[must_use]
    pub fn held_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.hold_until.filter(|until| *until > now)
    }
}

/// Why the service paused a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// The receiver answered 410.
    Gone,
    /// Every retry failed for days.
    Failing,
    /// The owner was deleted, and another person has the same name now.
    OwnerRecreated,
    /// A code that this version does not know, from an import or a later version. It is kept.
    Other(String),
}

impl PauseReason {
    /// All reasons that this version gives.
    pub const ALL: [Self; 3] = [Self::Gone, Self::Failing, Self::OwnerRecreated];

    /// The code that is stored and shown.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::OwnerRecreated => "owner-recreated",
            Self::Other(code) => code,
        }
    }

    /// The reason with this code.
    #[must_use]
    pub fn parse(code: &str) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.code() == code);
        known.unwrap_or_else(|| Self::Other(code.to_owned()))
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Webhook {
    /// Whether each attempt needs a slot, because the receiver or the owner limits their rate.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.rate_limit.is_some() || self.pacing != Pacing::default()
    }

    /// Whether the webhook belonged to a former user of the same name. Only an administrator may
    /// resume such a webhook.
    #[must_use]
    pub fn is_of_former_owner(&self) -> bool {
        self.paused && self.paused_reason == Some(PauseReason::OwnerRecreated)
    }
}

/// The URI of a webhook: absolute, with the scheme `http` or `https`. The owner's spelling is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUri {
    text: String,
    url: Url,
}

/// A text that is not the URI of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The WebHook URI must be absolute with a scheme of either 'http' or 'https' but received '{0}'."
)]
pub struct BadUri(pub String);

impl FromStr for WebhookUri {
    type Err = BadUri;

    fn from_str(text: &str) -> Result<Self, BadUri> {
        let text = text.trim();
        let bad = || BadUri(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        // Browsers also accept `http:host` and `http:\\host`, which are not absolute http URIs.
        let rest = text.get(url.scheme().len()..).unwrap_or_default();
        let absolute = rest.starts_with("://") && !rest.starts_with(":///");
        let fits = matches!(url.scheme(), "http" | "https") && url.has_host() && absolute;
        if !fits || text.chars().any(char::is_control) {
            return Err(bad());
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl WebhookUri {
    /// The URI as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parsed URI.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host to connect to, with the port if it is not the default of the scheme.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// Scheme, host and port, for logs: paths and queries often contain tokens.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// A secret that signs notifications. It is never printed, and is compared in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}

/// A secret that is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The WebHook secret key parameter must be between 32 and 128 characters long.")]
pub struct BadSecret;

impl FromStr for Secret {
    type Err = BadSecret;

    /// Counts UTF-16 code units, as the report server does.
    fn from_str(text: &str) -> Result<Self, BadSecret> {
        match text.encode_utf16().count() {
            32..=128 => Ok(Self(text.to_owned())),
            _ => Err(BadSecret),
        }
    }
}

impl Secret {
    /// Generates a secret of 32 letters and digits from at least 64 random bytes.
    ///
    /// Bytes from the largest multiple of 62 on are skipped, so that all characters are equally
    /// likely. Returns `None` if too few bytes are left.
    #[must_use]
    pub fn generate(random: &[u8]) -> Option<Self> {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let letter = |byte: &u8| LETTERS.get(usize::from(byte % 62)).map(|&b| char::from(b));
        let even = random.iter().filter(|byte| **byte < 248);
        let text: String = even.filter_map(letter).take(32).collect();
        text.parse().ok()
    }

    /// Whether the secret is this text, compared in constant time.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Headers that a webhook adds to each of its POSTs.
///
/// Values may be credentials, so they are sealed in the database and not printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, String)>);

/// Why a header of a webhook is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// The service sets a header with this name, or the name belongs to the connection.
    #[error(
        "The header '{0}' can't be set: the service sets it itself or it belongs to the connection."
    )]
    Reserved(String),
    /// The name is not a token (RFC 9110, section 5.6.2).
    #[error("The header name '{0}' is not valid.")]
    Name(String),
    /// The value contains control characters.
    #[error("The value of the header '{0}' is not valid: it holds control characters.")]
    Value(String),
    /// The headers exceed what servers commonly accept.
    #[error("The headers are too large: at most 50 headers and 8192 characters in all.")]
    TooMany,
}

impl Headers {
    /// Checks names and values. Of names that differ only by case, the last one counts.
    pub fn parse(wanted: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadHeader> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in wanted {
            let value = check_header(&name, &value)?;
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            headers.push((name, value));
            // Checked here and not at the end, because a body has room for a hundred thousand
            // headers.
            if headers.len() > 50 {
                return Err(BadHeader::TooMany);
            }
        }
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > 8192 {
            return Err(BadHeader::TooMany);
        }
        Ok(Self(headers))
    }

    /// The placeholder for a value that is not shown. A client that sends it back keeps the value.
    pub const MASK: &str = "********";

    /// Replaces each [`MASK`](Self::MASK) by the value of the same header in `stored`.
    #[must_use]
    pub fn unmasked(self, stored: &Self) -> Self {
        let value = |name: &str| {
            stored
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let headers = self.0.into_iter().map(|(name, sent)| {
            let kept = value(&name).filter(|_| sent == Self::MASK).map(str::to_owned);
            (name, kept.unwrap_or(sent))
        });
        Self(headers.collect())
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    #[must_use]
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.0
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Checks one header and trims its value.
fn check_header(name: &str, value: &str) -> Result<String, BadHeader> {
    const RESERVED: [&str; 13] = [
        "ms-signature",
        "host",
        "connection",
        "transfer-encoding",
        "expect",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "trailer",
        "traceparent",
    ];
    const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "content-"];
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(BadHeader::Name(name.to_owned()));
    }
    let folded = name.to_ascii_lowercase();
    let reserved = RESERVED.contains(&folded.as_str());
    if reserved || RESERVED_PREFIXES.iter().any(|prefix| folded.starts_with(prefix)) {
        return Err(BadHeader::Reserved(name.to_owned()));
    }
    let value = value.trim_matches([' ', '\t']);
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(BadHeader::Value(name.to_owned()));
    }
    Ok(value.to_owned())
}

/// Values that a webhook adds to each body, in its owner's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties(Map<String, Value>);

/// A property that is not a scalar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The property '{0}' is not valid: its value must be a text, a number, true, false or null."
)]
pub struct BadProperty(pub String);

impl Properties {
    /// Checks that all values are scalars.
    pub fn parse(wanted: Map<String, Value>) -> Result<Self, BadProperty> {
        match wanted.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            Some((name, _)) => Err(BadProperty(name.clone())),
            None => Ok(Self(wanted)),
        }
    }

    /// As a JSON object.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// As compact JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_reason_keeps_its_code_even_if_it_is_unknown() {
        for reason in PauseReason::ALL {
            assert_eq!(PauseReason::parse(reason.code()), reason);
        }
        let other = PauseReason::parse("Gone");
        assert_eq!(other, PauseReason::Other("Gone".to_owned()));
        assert_eq!(other.code(), "Gone");
    }

    #[test]
    fn uris_must_be_absolute_and_http() {
        assert!("https://example.org/a?b=c".parse::<WebhookUri>().is_ok());
        assert!("HTTP://example.org".parse::<WebhookUri>().is_ok());
        for text in [
            "ftp://example.org/",
            "/relative",
            "//example.org/",
            "example.org",
            "",
            "http://",
            "http:///x?",
            "http:example.org",
            "http:\\\\example.org",
            "http://a b/",
        ] {
            assert!(text.parse::<WebhookUri>().is_err(), "{text}");
        }
        let error = "ftp://x/".parse::<WebhookUri>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "The WebHook URI must be absolute with a scheme of either 'http' or 'https' but received 'ftp://x/'."
        );
    }

    #[test]
    fn logs_see_no_path() {
        let uri: WebhookUri = "https://user:word@example.org:8443/hook?token=1".parse().unwrap();
        assert_eq!(uri.origin(), "https://example.org:8443");
    }

    #[test]
    fn secrets_are_counted_in_utf16_units() {
        assert!("x".repeat(31).parse::<Secret>().is_err());
        assert!("x".repeat(32).parse::<Secret>().is_ok());
        assert!("\u{1F600}".repeat(16).parse::<Secret>().is_ok());
        assert!("\u{1F600}".repeat(65).parse::<Secret>().is_err());
        assert!("x".repeat(129).parse::<Secret>().is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret: Secret = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert!(!format!("{secret:?}").contains("0123"));
    }

    #[test]
    fn headers_that_break_the_request_are_refused_by_name() {
        let refused = [
            "MS-Signature",
            "webhook-id",
            "Content-Length",
            "HOST",
            "Connection",
            "transfer-encoding",
            "Expect",
            "TE",
            "Upgrade",
            "bad name",
            "",
            "x\r\ny",
        ];
        for name in refused {
            let error = Headers::parse([(name.to_owned(), "v".to_owned())]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let injected = ("X-A".to_owned(), "a\r\nHost: b".to_owned());
        assert_eq!(Headers::parse([injected]), Err(BadHeader::Value("X-A".to_owned())));
        let twice = [("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), " 2 ".to_owned())];
        assert_eq!(Headers::parse(twice).unwrap().iter().collect::<Vec<_>>(), [("x-a", "2")]);
    }

    #[test]
    fn a_mask_that_is_sent_back_keeps_the_stored_value() {
        let headers = |pairs: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Headers::parse(pairs.iter().map(pair)).unwrap()
        };
        let stored = headers(&[("X-Key", "secret"), ("X-Other", "1")]);
        let sent = headers(&[("x-key", Headers::MASK), ("X-Other", "2"), ("X-New", "3")]);
        let expected = headers(&[("x-key", "secret"), ("X-Other", "2"), ("X-New", "3")]);
        assert_eq!(sent.unmasked(&stored), expected);
    }

    proptest! {
        #[test]
        fn generated_secrets_are_letters_and_digits(random in prop::collection::vec(0u8..248, 64)) {
            let secret = Secret::generate(&random).unwrap();
            prop_assert_eq!(secret.reveal().len(), 32);
            prop_assert!(secret.reveal().bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }
}
