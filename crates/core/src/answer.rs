//! The result of one POST: an HTTP answer or the reason why there is none, and its timing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a POST got no HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Connecting or the whole exchange took longer than allowed.
    Timeout,
    /// The connection was refused, or broke before an answer came.
    Connect,
    /// The host's name did not resolve.
    Dns,
    /// The TLS handshake failed, for example for an untrusted certificate.
    Tls,
    /// The peer did not speak HTTP as the standard asks.
    Protocol,
    /// The host is, or resolves to, an address that webhooks may not reach.
    BlockedTarget,
}

impl Failure {
    /// The stable code under which the failure is recorded and shown.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::BlockedTarget => "blocked-target",
        }
    }
}

/// The result of one POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Response {
        /// HTTP status code.
        status: u16,
        /// The `Retry-After` header as it was sent.
        retry_after: Option<String>,
        /// How long the receiver accepts no further request, by its `RateLimit` headers: see
        /// [`quota`](crate::quota).
        exhausted: Option<Duration>,
        /// The beginning of the body (16 KiB at most), as text without NUL characters.
        body: String,
    },
    /// There was no answer.
    Failed {
        /// The kind of failure.
        failure: Failure,
        /// One sentence for a person.
        detail: String,
    },
}

/// How long the phases of a POST took. It is shown to people; no decision depends on it.
///
/// The phases follow each other, and their sum is at most the duration of the POST. The remainder
/// is the time for reading the body. A phase that did not take place, or is unknown, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trace {
    /// Resolving the host's name, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_ms: Option<u32>,
    /// Opening the TCP connection, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u32>,
    /// The TLS handshake, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ms: Option<u32>,
    /// From the connection to the head of the answer, in milliseconds; `None` when none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u32>,
    /// The answer's headers that fit into 2 KiB, in their order: names in lower case, and values as
    /// text without NUL characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Whether there were more headers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_headers: bool,
}

impl Trace {
    /// Whether the POST used a connection that was open already; `None` when that is unknown.
    #[must_use]
    pub fn reused(&self) -> Option<bool> {
        match (self.dns_ms.or(self.connect_ms), self.first_byte_ms) {
            (Some(_), _) => Some(false),
            (None, Some(_)) => Some(true),
            (None, None) => None,
        }
    }
}
