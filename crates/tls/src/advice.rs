//! What to do about a handshake that failed.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

/// What to do when a server ends a connection that has just been secured.
pub const ENDED: &str = "it ended the connection after the handshake, as a server does that wants a \
                         certificate of ours, or does not accept the one that it got";

/// What to do about the failed handshake that caused this error, if one did.
///
/// `secured` tells whether the connection spoke TLS: a server's last word about a certificate is
/// often lost, because it comes when we have spoken on already.
#[must_use]
pub fn advice(error: &(dyn Error + 'static), secured: bool) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(advice) = find(error).and_then(of) {
            return Some(advice);
        }
        if secured && io(error).is_some_and(has_ended) {
            return Some(ENDED);
        }
        next = error.source();
    }
    None
}

/// Whether a handshake failed for its content, and not because the network did: an error of TLS is
/// among its causes, or none of them is one of input and output.
#[must_use]
pub fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let (mut next, mut is_io) = (Some(error), false);
    while let Some(error) = next {
        if find(error).is_some() {
            return true;
        }
        is_io |= io(error).is_some();
        next = error.source();
    }
    !is_io
}

fn io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let shared = error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref);
    shared.or_else(|| error.downcast_ref())
}

fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Input and output errors hold their cause without telling it as a source.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    io(error)?.get_ref().and_then(|inner| find(inner))
}

fn of(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(wrong) => Some(match wrong {
            CertificateError::UnknownIssuer => {
                "the server's certificate is signed by nobody who is trusted here: give the \
                 certificate of its authority in the URL"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for other names: connect to one of those, or have \
                 it made for this one"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired: have it renewed, and check both clocks"
            }
            _ => "the server's certificate can't be accepted: have it made anew",
        }),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => Some("the server wants a certificate of ours: give it, and its key, in the URL"),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked,
        ) => Some(
            "the server does not accept our certificate: give one of an authority that it trusts",
        ),
        rustls::Error::InvalidMessage(_) => {
            Some("what answers does not speak TLS: check the port, and whether TLS is on there")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[test]
    fn a_network_that_fails_during_the_handshake_is_no_matter_of_tls() {
        use io::ErrorKind::{
            HostUnreachable, InvalidData, NetworkUnreachable, TimedOut, UnexpectedEof,
        };
        for kind in [HostUnreachable, NetworkUnreachable, TimedOut, UnexpectedEof] {
            assert!(!is_of_tls(&io::Error::from(kind)), "{kind}");
        }
        let refused = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(is_of_tls(&io::Error::new(InvalidData, refused.clone())));
        assert!(is_of_tls(&refused));
        assert!(is_of_tls(&fmt::Error), "what the client itself says of the server's answer");
    }
}
