//! The reasons of failed TLS handshakes, in words for the operator of the receiver. They describe
//! only what the receiver presented, and nothing about this service.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};
use thiserror::Error as ThisError;

/// The most names of a certificate in a sentence, and the most characters of each.
const NAMES: usize = 5;
const NAME: usize = 80;

/// The reason in one sentence.
pub(crate) fn sentence(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(wrong) => return certificate(wrong),
        Error::InvalidMessage(_) => {
            "the server does not speak TLS: the port may be one for http, or for something else"
        }
        Error::AlertReceived(alert) => return of_alert(*alert),
        Error::PeerIncompatible(_) => {
            "the server offers no TLS version or cipher that is safe to use: it must speak TLS 1.2 \
             or 1.3"
        }
        Error::NoApplicationProtocol => "the server speaks neither HTTP/1.1 nor HTTP/2 here",
        Error::NoCertificatesPresented => "the server shows no certificate",
        _ => "the TLS handshake failed",
    };
    text.to_owned()
}

fn certificate(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            return format!("the certificate has expired: it was valid until {}", date(*not_after));
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            return format!(
                "the certificate is not valid yet: it will be from {}",
                date(*not_before)
            );
        }
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            return format!("the certificate is for another name: it is for {}", names(presented));
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
            Some(untrusted) => return untrusted.to_string(),
            None => "the certificate is not valid",
        },
        CertificateError::Expired => "the certificate has expired",
        CertificateError::NotValidYet => "the certificate is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another name"
        }
        CertificateError::UnknownIssuer => "the certificate's issuer is not trusted",
        CertificateError::Revoked => "the certificate was revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for a server"
        }
        _ => "the certificate is not valid",
    };
    text.to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "the server wants a client certificate, and none is sent"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::UnknownCA => {
            "the server refused the TLS handshake: it may want a client certificate, and none is sent"
        }
        AlertDescription::ProtocolVersion => {
            "the server speaks no TLS version that is safe to use: it must speak TLS 1.2 or 1.3"
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the server refused the TLS handshake: it has no cipher in common with us, or wants a \
             client certificate"
        }
        AlertDescription::UnrecognisedName => "the server has no certificate for this name",
        AlertDescription::NoApplicationProtocol => {
            "the server speaks neither HTTP/1.1 nor HTTP/2 here"
        }
        AlertDescription::InternalError => {
            "the server refused the TLS handshake because of an error of its own"
        }
        _ => "the server refused the TLS handshake",
    };
    text.to_owned()
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// The first names in a certificate. They are given in the form `DnsName("example.org")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let text = name.split('"').nth(1).unwrap_or(name);
        text.chars().filter(|c| !c.is_control()).take(NAME).collect::<String>()
    };
    let more = if presented.len() > NAMES { " and others" } else { "" };
    let first: Vec<String> = presented.iter().take(NAMES).map(bare).collect();
    format!("{}{more}", first.join(", "))
}

/// Why a certificate's issuer is not trusted.
#[derive(Debug, ThisError)]
enum Untrusted {
    #[error(
        "the certificate's issuer is not trusted, and the server sends no intermediate certificate: \
         it must send those that lead to a trusted authority"
    )]
    NoIntermediate,
    #[error("the certificate is signed by itself: the server needs one of a trusted authority")]
    BySelf,
    #[error(
        "the certificate's issuer is not trusted: the server needs one of a trusted authority, or \
         that authority must become trusted here"
    )]
    Issuer,
}

/// A verifier of certificates whose error explains why an issuer is not trusted.
#[derive(Debug)]
pub(crate) struct Explaining(pub(crate) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.0.verify_server_cert(certificate, intermediates, name, ocsp, now);
        checked.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let by_self = webpki::EndEntityCert::try_from(certificate)
                    .is_ok_and(|parsed| parsed.issuer() == parsed.subject());
                let why = match (by_self, intermediates) {
                    (true, _) => Untrusted::BySelf,
                    (false, []) => Untrusted::NoIntermediate,
                    (false, _) => Untrusted::Issuer,
                };
                CertificateError::Other(OtherError(Arc::new(why))).into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
