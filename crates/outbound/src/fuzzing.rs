//! The parsers of this crate, as the fuzzing of Fanfare calls them. Nothing else does.

use fanfare_core::webhook::WebhookUri;

use crate::destination::Destination;
use crate::head;

/// The head of an answer, as far as it can be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// The headers that can be parsed: names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The number of bytes after the head; `None` while it is incomplete.
    pub rest: Option<usize>,
    /// Whether both sides agree where the body ends.
    pub is_regular: bool,
}

/// Parses the head of the final answer in these bytes.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<Head> {
    let head = head::Head::read(bytes)?;
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Some(Head {
        status: head.status,
        headers: head.headers().iter().map(header).collect(),
        rest: head.body.map(<[u8]>::len),
        is_regular: head.is_regular(),
    })
}

/// The URI that a request to a webhook is sent to, with `echo` added to its query if it is given.
#[must_use]
pub fn request_uri(to: &WebhookUri, echo: Option<&str>) -> Option<String> {
    Destination::from(to).uri(echo).map(|uri| uri.to_string())
}

/// The value of `authorization` for the user and the password in a webhook's URI.
#[must_use]
pub fn authorization(to: &WebhookUri) -> Option<Vec<u8>> {
    Destination::from(to).authorization().map(|value| value.as_bytes().to_vec())
}
