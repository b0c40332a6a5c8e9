//! TLS to the database and the broker: whom to trust, and who we are.
//!
//! Both servers have words of their own for this in their connection strings; what they mean comes
//! together in [`Tls`]. Files are read for each connection, so that a certificate that was renewed
//! is used without a restart.
//!
//! `verify` holds the checks that are weaker than the usual one, for those who ask for them.

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

/// How a server is checked, and what it is shown of us.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// What of the server's certificate is checked.
    pub check: Check,
    /// Whose signatures are trusted.
    pub roots: Roots,
    /// The certificate that the server may ask for.
    pub identity: Option<Identity>,
}

/// What of a server's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// Nothing: the connection is encrypted, but whoever answers is believed.
    Nothing,
    /// That it was signed by one of the roots, for whatever name.
    Signature,
    /// That it was signed by one of the roots for the name that was connected to.
    #[default]
    SignatureAndName,
}

/// Whose signatures are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// Those that the operating system trusts.
    #[default]
    System,
    /// The certificates in a PEM file, and no others.
    File(PathBuf),
}

/// A certificate of our own, with those that lead to its root, and its key: two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, our own first.
    pub certificate: PathBuf,
    /// The key, not encrypted.
    pub key: PathBuf,
}

/// TLS can't be set up as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("failed to read {path}; check that it exists and that this user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no certificates.
    #[error("{path} holds no certificate; give a file with certificates in PEM form")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no key that can be used.
    #[error("{path} holds no key that can be used; give a private key in PEM form, not encrypted")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key don't fit, or something else is wrong with them.
    #[error("the certificate in {certificate} can't be used with the key in {key}")]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The roots can't be used.
    #[error("failed to take trusted certificates from {of}")]
    Roots {
        /// Where from.
        of: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Tls {
    /// Reads the files and makes of them what a connection needs. Blocks for as long as reading
    /// takes.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file and what is wrong with it.
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
    fn files_of_the_right_kind_are_taken() {
        let (scratch, (certificate, key)) = (Scratch::new(), pair());
        let (certificate, key) = (scratch.file("c.pem", &certificate), scratch.file("k.pem", &key));
        with_identity(certificate, key).unwrap();
    }

    #[test]
    fn a_file_that_can_t_be_used_is_named() {
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
