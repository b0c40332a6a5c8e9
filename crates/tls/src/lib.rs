//! TLS to the database and the broker: the trusted authorities, and our own certificate.
//!
//! The connection strings of both servers have their own parameters for this; both are translated
//! to [`Tls`]. Files are read for each connection, so that a renewed certificate is used without a
//! restart.
//!
//! `verify` has the optional checks that are weaker than the default.

mod advice;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

pub use advice::{ENDED, advice, is_of_tls};

/// How to check a server's certificate, and the client certificate to present.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub check: Check,
    pub roots: Roots,
    /// The client certificate, which the server may request.
    pub identity: Option<Identity>,
}

/// How a server's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// Not at all: the connection is encrypted, but any server is accepted.
    Nothing,
    /// It must be signed by one of the roots, for any name.
    Signature,
    /// It must be signed by one of the roots, for the host name of the connection.
    #[default]
    SignatureAndName,
}

/// The trusted authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The authorities that the operating system trusts.
    #[default]
    System,
    /// The certificates in a PEM file, and no others.
    File(PathBuf),
}

/// A client certificate with its chain, and its key: two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, the client's own first.
    pub certificate: PathBuf,
    /// The key, not encrypted.
    pub key: PathBuf,
}

/// Why TLS can't be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("failed to read {path}; check that it exists and that this user may read it")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file holds no certificates.
    #[error("{path} holds no certificate; give a file with certificates in PEM form")]
    NoCertificate { path: PathBuf },
    /// A file holds no key that can be used.
    #[error("{path} holds no key that can be used; give a private key in PEM form, not encrypted")]
    NoKey { path: PathBuf },
    /// Certificate and key don't match, or one of them is not valid.
    #[error("the certificate in {certificate} can't be used with the key in {key}")]
    Identity {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    /// The roots can't be used.
    #[error("failed to load trusted certificates from {of}")]
    Roots {
        /// The file, or the operating system.
        of: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Tls {
    /// Reads the files and builds the configuration of a connection. It blocks while it reads.
    ///
    /// # Errors
    ///
    /// A file can't be read or used. [`TlsError`] names the file and the problem.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = self.verifier(&provider)?;
        let roots_error = |source: rustls::Error| self.roots_error(source);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(roots_error)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some(identity) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let (chain, key) = (certificates(&identity.certificate)?, private_key(&identity.key)?);
        builder.with_client_auth_cert(chain, key).map_err(|source| TlsError::Identity {
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            source,
        })
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.check == Check::Nothing {
            return Ok(Arc::new(verify::Anyone::new(provider)));
        }
        let full: Arc<dyn ServerCertVerifier> = match &self.roots {
            Roots::System => Arc::new(
                rustls_platform_verifier::Verifier::new(Arc::clone(provider))
                    .map_err(|source| self.roots_error(source))?,
            ),
            Roots::File(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|source| self.roots_error(source))?;
                }
                WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
                    .build()
                    .map_err(|source| self.roots_error(source))?
            }
        };
        Ok(match self.check {
            Check::Signature => Arc::new(verify::AnyName(full)),
            _ => full,
        })
    }

    fn roots_error(&self, source: impl std::error::Error + Send + Sync + 'static) -> TlsError {
        let of = match &self.roots {
            Roots::System => "the operating system".to_owned(),
            Roots::File(path) => path.display().to_string(),
        };
        TlsError::Roots { of, source: Box::new(source) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("fanfare-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn with_identity(certificate: PathBuf, key: PathBuf) -> Result<ClientConfig, TlsError> {
        let roots = Roots::File(certificate.clone());
        Tls { roots, identity: Some(Identity { certificate, key }), ..Tls::default() }
            .client_config()
    }

    #[test]
    fn a_valid_certificate_and_key_are_accepted() {
        let (scratch, (certificate, key)) = (Scratch::new(), pair());
        let (certificate, key) = (scratch.file("c.pem", &certificate), scratch.file("k.pem", &key));
        with_identity(certificate, key).unwrap();
    }

    #[test]
    fn an_unusable_file_is_named_in_the_error() {
        let (scratch, (certificate, key)) = (Scratch::new(), pair());
        let certificate = scratch.file("c.pem", &certificate);
        let key = scratch.file("k.pem", &key);
        let (_, other) = pair();
        let other = scratch.file("other.pem", &other);
        let missing = scratch.0.join("missing.pem");
        for (certificate, key, said) in [
            (&missing, &key, "failed to read"),
            (&key, &key, "k.pem holds no certificate"),
            (&certificate, &certificate, "c.pem holds no key"),
            (&certificate, &other, "can't be used with the key in"),
        ] {
            let error = with_identity(certificate.clone(), key.clone()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
