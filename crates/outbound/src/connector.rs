//! Opening connections: the name, the TCP connection and the TLS handshake, within one time limit.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use fanfare_core::target::TargetPolicy;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tower::Service as _;

use crate::resolver::PolicyResolver;
use crate::stream::Io;
use crate::timing::{self, Moment};
use crate::tls::Tls;

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// It took longer than the limit for connecting.
    #[error("there was no connection in time")]
    Late,
    /// It took longer than the limit for the whole request.
    #[error("there was no connection before the deadline")]
    Deadline,
    /// The name or the TCP connection failed.
    #[error("the connection could not be opened")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    /// The TLS handshake failed.
    #[error("the connection could not be secured")]
    Tls(#[source] std::io::Error),
    /// The host is not a name that a certificate can be for.
    #[error("the host is not a name for TLS")]
    Name,
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector<PolicyResolver>,
    tls: Arc<Tls>,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(policy: TargetPolicy, tls: Tls, limit: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(PolicyResolver::new(policy));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls: Arc::new(tls), limit }
    }

    /// Opens a connection to the host of `uri`, and returns whether it uses HTTP/2.
    pub(crate) async fn open(
        &self,
        uri: &Uri,
        http1_only: bool,
        deadline: Instant,
    ) -> Result<(Io, bool), OpenError> {
        timing::note(Moment::Connecting);
        let limit = Instant::now() + self.limit;
        let opening = self.open_without_limit(uri, http1_only);
        let late = if deadline < limit { OpenError::Deadline } else { OpenError::Late };
        let opened = timeout_at(limit.min(deadline), opening).await.map_err(|_| late)??;
        timing::note(Moment::Connected);
        Ok(opened)
    }

    async fn open_without_limit(
        &self,
        uri: &Uri,
        http1_only: bool,
    ) -> Result<(Io, bool), OpenError> {
        let socket: TcpStream = self
            .tcp
            .clone()
            .call(uri.clone())
            .await
            .map_err(|error| OpenError::Tcp(error.into()))?
            .into_inner();
        if uri.scheme_str() != Some("https") {
            return Ok((Io::Plain(socket), false));
        }
        let host = uri.host().unwrap_or_default();
        // An IPv6 address is in brackets in a URI only.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| OpenError::Name)?;
        let config = self.tls.config(http1_only).await;
        timing::note(Moment::Securing);
        let stream =
            TlsConnector::from(config).connect(name, socket).await.map_err(OpenError::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Io::Tls(Box::new(stream)), http2))
    }
}
