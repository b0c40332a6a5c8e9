//! Advice about a failed handshake: what an operator can do about it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

/// The advice for a connection that a server closes right after the handshake.
pub const ENDED: &str = "it closed the connection after the handshake, as a server does that requires \
                         a client certificate, or does not accept the one that it got";

/// The advice about the failed handshake that caused this error, if one did.
///
/// `secured` is whether the connection used TLS. A server's alert about a certificate is often
/// lost, because the client has sent more data before the alert arrives.
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

/// Whether a handshake failed because of TLS and not because of the network: its causes include an
/// error of TLS, or no I/O error.
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

/// Finds an error of TLS, which may be inside an I/O error that does not return it as its source.
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
                "the server's certificate is signed by an authority that is not trusted here: give the \
                 certificate of that authority in the URL"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for other names: connect to one of these names, or \
                 issue a certificate for this one"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired: renew it, and check the clocks of both machines"
            }
            _ => "the server's certificate is not valid: issue a new one",
        }),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => Some("the server requires a client certificate: give it, and its key, in the URL"),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked,
        ) => Some(
            "the server does not accept our client certificate: give one of an authority that it \
             trusts",
        ),
        rustls::Error::InvalidMessage(_) => Some(
            "the server does not speak TLS on this port: check the port, and whether TLS is on",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[test]
    fn network_errors_during_the_handshake_are_not_errors_of_tls() {
        use io::ErrorKind::{
            HostUnreachable, InvalidData, NetworkUnreachable, TimedOut, UnexpectedEof,
        };
        for kind in [HostUnreachable, NetworkUnreachable, TimedOut, UnexpectedEof] {
            assert!(!is_of_tls(&io::Error::from(kind)), "{kind}");
        }
        let refused = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(is_of_tls(&io::Error::new(InvalidData, refused.clone())));
        assert!(is_of_tls(&refused));
        assert!(is_of_tls(&fmt::Error), "an error of the client about the server's answer");
    }
}
