//! TLS to webhooks: the trusted authorities, and the protocols that are offered.
//!
//! The system's roots and the operator's own file are read again when they change, so that a new
//! authority is trusted without a restart. If the files can't be read, the former roots stay in
//! use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fanfare_core::chain::chain;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use thiserror::Error;

use crate::handshake_error::Explaining;

/// The number of servers whose sessions are kept for resumption.
const SESSIONS: usize = 256;

/// The shortest time between two checks of the files.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// The files and directories of the system's roots, in the distributions that rustls knows.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why TLS can't be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file of authorities can't be read.
    #[error("failed to read {path}; check that it exists and that this user may read it")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file of authorities has no certificate.
    #[error("{path} holds no certificate; give a file with certificates in PEM form")]
    NoCertificate { path: PathBuf },
    /// The TLS library refuses its input, for example a certificate in the file.
    #[error("failed to set up TLS towards receivers")]
    Setup(#[source] rustls::Error),
}

/// The TLS configuration of connections to webhooks.
#[derive(Debug)]
pub(crate) struct Tls {
    ca_file: Option<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    configs: Configs,
    seen: Vec<Option<SystemTime>>,
    checked_at: Instant,
}

#[derive(Debug, Clone)]
struct Configs {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the roots. If there are none at all, it logs a warning, and no server is trusted.
    pub(crate) fn new(ca_file: Option<PathBuf>) -> Result<Self, TlsError> {
        let seen = modified(ca_file.as_deref());
        let configs = configs(ca_file.as_deref())?;
        let current = Mutex::new(Current { configs, seen, checked_at: Instant::now() });
        Ok(Self { ca_file, current })
    }

    /// The configuration of a new connection, with HTTP/2 or without.
    pub(crate) async fn config(self: &Arc<Self>, http1_only: bool) -> Arc<ClientConfig> {
        if self.is_due() {
            let this = Arc::clone(self);
            // This fails only while the process ends.
            let _ = tokio::task::spawn_blocking(move || this.read_again()).await;
        }
        let configs = &self.lock().configs;
        Arc::clone(if http1_only { &configs.http1 } else { &configs.any })
    }

    /// Whether the files must be checked now. It is true for one caller in each interval.
    fn is_due(&self) -> bool {
        let mut current = self.lock();
        let due = current.checked_at.elapsed() >= CHECK_EVERY;
        if due {
            current.checked_at = Instant::now();
        }
        due
    }

    fn read_again(&self) {
        let seen = modified(self.ca_file.as_deref());
        if self.lock().seen == seen {
            return;
        }
        match configs(self.ca_file.as_deref()) {
            Ok(configs) => {
                tracing::info!("the trusted certificates changed and were read again");
                self.lock().configs = configs;
            }
            Err(error) => {
                let cause = chain(&error);
                tracing::warn!(
                    cause,
                    "the trusted certificates changed and can't be used: the former ones stay in use"
                );
            }
        }
        self.lock().seen = seen;
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When each of the files was modified last.
fn modified(ca_file: Option<&Path>) -> Vec<Option<SystemTime>> {
    let set = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    let files = set.map(PathBuf::from).chain(SYSTEM_FILES.iter().map(PathBuf::from));
    let files = files.chain(ca_file.map(Path::to_owned));
    files.map(|file| fs::metadata(file).and_then(|file| file.modified()).ok()).collect()
}

fn configs(ca_file: Option<&Path>) -> Result<Configs, TlsError> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let own = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let has_own = !own.is_empty();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match Verifier::new_with_extra_roots(own, provider) {
        Ok(verifier) => {
            let verifier = Arc::new(Explaining(Arc::new(verifier)));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        // If there are roots of the operator's own, the error is about them.
        Err(error) if has_own => return Err(TlsError::Setup(error)),
        Err(cause) => {
            let cause = chain(&cause);
            tracing::warn!(
                cause,
                "the system trusts no certificate authority, so every https target will fail; \
                 install the CA certificates"
            );
            builder.with_root_certificates(RootCertStore::empty())
        }
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http1 = Arc::new(config.clone());
    config.alpn_protocols.insert(0, b"h2".to_vec());
    Ok(Configs { any: Arc::new(config), http1 })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text =
        fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })
}
