//! Failures: the errors of the HTTP stack are mapped to the six failures that are recorded.
//!
//! | failure | what happened |
//! |---|---|
//! | `blocked-target` | the URL's literal address, or every address of its name, is not permitted |
//! | `dns` | the name does not resolve |
//! | `timeout` | no connection, or no answer, in time |
//! | `tls` | the handshake failed: an untrusted certificate, or a peer that does not speak TLS |
//! | `connect` | no connection, or one that broke before a status line arrived |
//! | `protocol` | the answer has no HTTP status line, or the request could not be expressed in HTTP |
//!
//! All causes of an error are searched, because the relevant one is several layers deep. Their
//! texts are written to the debug log; the record has a sentence from this module.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use fanfare_core::answer::Failure;
use fanfare_core::chain::{causes, chain};

use crate::connector::OpenError;
use crate::handshake_error;
use crate::resolver::ResolveError;

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) detail: String,
    /// Whether the connection could not be opened.
    pub(crate) connecting: bool,
}

/// The time limits of a request, for the text of a timeout.
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) whole: Duration,
}

impl Failed {
    pub(crate) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into(), connecting: false }
    }

    /// There was no answer in time.
    pub(crate) fn late(whole: Duration) -> Self {
        Self::new(Failure::Timeout, format!("there was no answer within {whole:?}"))
    }

    /// The server sent a TLS record over a connection without TLS.
    pub(crate) fn is_tls() -> Self {
        Self::new(
            Failure::Protocol,
            "the server speaks TLS on this port: the URL must begin with https",
        )
    }

    /// The receiver has not processed the request, although it was sent several times.
    pub(crate) fn not_processed(error: Option<&hyper::Error>) -> Self {
        log_cause(error.map(|error| error as _));
        Self::new(Failure::Connect, "the server refused the request each time before reading it")
    }

    /// The failure of a request whose connection could not be opened.
    pub(crate) fn to_open(error: &OpenError, limits: &Limits) -> Self {
        log_cause(Some(error));
        let failed = match error {
            OpenError::Late => {
                let detail = format!("there was no connection within {:?}", limits.connect);
                Self::new(Failure::Timeout, detail)
            }
            OpenError::Deadline => Self::late(limits.whole),
            OpenError::Name => Self::new(
                Failure::Tls,
                "the host in the URL is not a name that a certificate can be for",
            ),
            OpenError::Tcp(cause) => find(&**cause)
                .map(Self::from_resolve)
                .or_else(|| last(&**cause).map(Self::from_io))
                .unwrap_or_else(|| Self::new(Failure::Connect, "the connection failed")),
            OpenError::Tls(cause) => find(cause)
                .map(Self::from_tls)
                .or_else(|| last(cause).map(Self::from_handshake_io))
                .unwrap_or_else(|| Self::new(Failure::Tls, "the TLS handshake failed")),
        };
        Self { connecting: !matches!(error, OpenError::Deadline), ..failed }
    }

    /// The failure of a request on an open connection.
    pub(crate) fn in_exchange(error: &hyper::Error) -> Self {
        log_cause(Some(error));
        find(error)
            .map(Self::from_tls)
            .or_else(|| last(error).map(Self::from_io))
            .or_else(|| find(error).map(Self::from_http2))
            .unwrap_or_else(|| Self::from_http(error))
    }

    fn from_resolve(error: &ResolveError) -> Self {
        let failure = match error {
            ResolveError::Lookup { .. } => Failure::Dns,
            ResolveError::Blocked { .. } => Failure::BlockedTarget,
        };
        Self::new(failure, error.to_string())
    }

    fn from_tls(error: &rustls::Error) -> Self {
        Self::new(Failure::Tls, handshake_error::sentence(error))
    }

    fn from_handshake_io(error: &io::Error) -> Self {
        match error.kind() {
            // The system or the peer closed the connection without a TLS alert.
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Self::new(Failure::Tls, "the server closed the connection during the TLS handshake")
            }
            _ => Self::from_io(error),
        }
    }

    /// The failure for an HTTP/2 error without an I/O error.
    fn from_http2(error: &h2::Error) -> Self {
        let detail = match error.reason() {
            Some(reason) if error.is_remote() => {
                format!("the server ended the request over HTTP/2: {}", reason.description())
            }
            _ => "the answer is not valid HTTP/2".to_owned(),
        };
        Self::new(Failure::Protocol, detail)
    }

    fn from_io(error: &io::Error) -> Self {
        let detail = match error.kind() {
            ErrorKind::ConnectionRefused => "the connection was refused",
            ErrorKind::ConnectionReset => "the connection was reset",
            ErrorKind::HostUnreachable => "the host cannot be reached",
            ErrorKind::NetworkUnreachable => "the network cannot be reached",
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => CLOSED,
            _ => "the connection failed",
        };
        Self::new(Failure::Connect, detail)
    }

    fn from_http(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            Self::new(Failure::Connect, CLOSED)
        } else {
            Self::new(Failure::Protocol, "the answer is not valid HTTP")
        }
    }
}

fn log_cause(error: Option<&(dyn Error + 'static)>) {
    let cause = error.map(chain);
    tracing::debug!(cause, "the request got no answer");
}

const CLOSED: &str = "the connection was closed before the answer came";

/// The first error of type `E` among the causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The last error of type `E` among the causes: an inner I/O error says more than those around it.
fn last<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).filter_map(|cause| cause.downcast_ref()).last()
}
