//! From the errors of the HTTP stack to the six failures that are recorded.
//!
//! | failure | what happened |
//! |---|---|
//! | `blocked-target` | the URL's literal address, or every address of its name, is not permitted |
//! | `dns` | the name does not resolve |
//! | `timeout` | no connection, or no answer, in time |
//! | `tls` | the handshake failed: an untrusted certificate, or a peer that does not speak TLS |
//! | `connect` | no connection, or one that broke before the head of the answer was here |
//! | `protocol` | what came is not HTTP, or the request could not be put into HTTP |
//!
//! The whole chain of causes is looked at: the interesting error is several layers down. Their own
//! texts are for the debug log; what is recorded is a sentence from here.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use fanfare_core::answer::Failure;
use rustls::CertificateError;

use crate::resolver::ResolveError;

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) detail: String,
    /// Whether it was the connection that could not be made.
    pub(crate) connecting: bool,
}

/// The limits that a request was under, to be told when one is passed.
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) whole: Duration,
}

impl Failed {
    pub(crate) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into(), connecting: false }
    }

    /// Says what an error of the HTTP stack comes to.
    pub(crate) fn classify(error: reqwest::Error, limits: &Limits) -> Self {
        let error = error.without_url();
        let failed = find(&error)
            .map(Self::from_resolve)
            .or_else(|| error.is_timeout().then(|| Self::from_timeout(&error, limits)))
            .or_else(|| find(&error).map(Self::from_tls))
            .or_else(|| last(&error).map(|io| Self::from_io(io, error.is_connect())))
            .or_else(|| find(&error).map(Self::from_http))
            .unwrap_or_else(|| Self::from_other(&error));
        let cause = chain_text(&error);
        tracing::debug!(outcome = failed.failure.code(), cause, "the request got no answer");
        Self { connecting: error.is_connect(), ..failed }
    }

    fn from_resolve(error: &ResolveError) -> Self {
        let failure = match error {
            ResolveError::Lookup { .. } => Failure::Dns,
            ResolveError::Blocked { .. } => Failure::BlockedTarget,
        };
        Self::new(failure, error.to_string())
    }

    fn from_timeout(error: &reqwest::Error, limits: &Limits) -> Self {
        let detail = if error.is_connect() {
            format!("there was no connection within {:?}", limits.connect)
        } else {
            format!("there was no answer within {:?}", limits.whole)
        };
        Self::new(Failure::Timeout, detail)
    }

    fn from_tls(error: &rustls::Error) -> Self {
        let detail = match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the certificate has expired"
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "the certificate is not valid yet"
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "the certificate is for another name"
                }
                CertificateError::UnknownIssuer => "the certificate's issuer is not trusted",
                CertificateError::Revoked => "the certificate was revoked",
                _ => "the certificate is not valid",
            },
            rustls::Error::InvalidMessage(_) => "the server does not speak TLS",
            rustls::Error::AlertReceived(_) => "the server refused the TLS handshake",
            rustls::Error::PeerIncompatible(_) => {
                "the server offers no TLS version or cipher that is safe to use"
            }
            _ => "the TLS handshake failed",
        };
        Self::new(Failure::Tls, detail)
    }

    fn from_io(error: &io::Error, connecting: bool) -> Self {
        let (failure, detail) = match error.kind() {
            // Opening a TCP connection can't end so, which leaves the handshake after it.
            ErrorKind::UnexpectedEof if connecting => {
                (Failure::Tls, "the server closed the connection during the TLS handshake")
            }
            ErrorKind::ConnectionRefused => (Failure::Connect, "the connection was refused"),
            ErrorKind::ConnectionReset => (Failure::Connect, "the connection was reset"),
            ErrorKind::HostUnreachable => (Failure::Connect, "the host cannot be reached"),
            ErrorKind::NetworkUnreachable => (Failure::Connect, "the network cannot be reached"),
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => (Failure::Connect, CLOSED),
            _ => (Failure::Connect, "the connection failed"),
        };
        Self::new(failure, detail)
    }

    fn from_http(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            Self::new(Failure::Connect, CLOSED)
        } else {
            Self::new(Failure::Protocol, "the answer is not valid HTTP")
        }
    }

    fn from_other(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            Self::new(Failure::Connect, "the connection failed")
        } else if error.is_builder() {
            Self::new(Failure::Protocol, "the request could not be built from the URL")
        } else {
            Self::new(Failure::Protocol, "the exchange failed")
        }
    }
}

const CLOSED: &str = "the connection was closed before the answer came";

/// The error and its causes, in one line.
pub(crate) fn chain_text(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// The first error of type `E` among the causes.
fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The last error of type `E` among the causes: I/O errors are wrapped in I/O errors that say less.
fn last<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).filter_map(|cause| cause.downcast_ref()).last()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An I/O error that wraps another names that one's cause as its own, and so hides it.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
