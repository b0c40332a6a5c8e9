//! What came back from one POST: an HTTP answer, or the reason why there is none.

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

/// What one POST came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Response {
        /// HTTP status code.
        status: u16,
        /// The `Retry-After` header as it was sent.
        retry_after: Option<String>,
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
