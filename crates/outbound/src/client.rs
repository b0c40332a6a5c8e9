//! The client: how requests are sent, and what the answer to a POST is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure};
use fanfare_core::target::TargetPolicy;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, Method, Response, redirect, retry};
use thiserror::Error;
use tokio::time::timeout;
use url::{Host, Url};

use crate::body::{self, Start};
use crate::failed::{Failed, Limits, chain_text};
use crate::resolver::PolicyResolver;

/// How long the body of an answer is read. The status has decided by then; the text is for the
/// record, and a trickling receiver must not hold a slot for the whole timeout.
const BODY_TIME: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: long enough for a busy webhook, and shorter than the
/// idle time of common servers, so that few POSTs meet a connection that is just being closed.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Unused connections kept for one host: as many as requests go to one webhook side by side, so that
/// a busy endpoint is not connected to over and over.
const IDLE_PER_HOST: usize = 64;

/// HTTP/2 flow control: what a peer may send unasked, for one stream and for one connection. At
/// most 16 KiB of an answer are read, so the default windows of megabytes would only buffer waste.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How soon a dead HTTP/2 connection is noticed: without pings every request of a host would go on
/// timing out on it, since they all share one.
const PING_AFTER: Duration = Duration::from_secs(5);

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests may go.
    pub allow: TargetPolicy,
    /// The longest time for resolving, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// The longest time for a POST, from resolving to the last byte that is read.
    pub timeout: Duration,
    /// The `user-agent` of requests that don't bring one.
    pub user_agent: String,
}

/// The HTTP client. Cloning is cheap, and clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    config: Arc<Config>,
}

/// The client could not be built, for example for a user agent that is no header value.
#[derive(Debug, Error)]
#[error("building the HTTP client")]
pub struct BuildError(#[source] pub(crate) reqwest::Error);

impl Client {
    /// Builds a client.
    ///
    /// Works with and without an installed default crypto provider. Where the system has no trust
    /// roots at all, this logs a warning and no `https` address is trusted, so that deliveries to
    /// plain `http` addresses go on.
    ///
    /// # Errors
    ///
    /// The user agent is not a valid header value, or the TLS parts can't be set up.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        let http = builder(&config).build().or_else(|cause| {
            let http = builder(&config).tls_certs_only([]).build();
            if http.is_ok() {
                let cause = chain_text(&cause);
                tracing::warn!(
                    cause,
                    "the system has no trust roots: every https target will fail"
                );
            }
            http
        });
        Ok(Self { http: http.map_err(BuildError)?, config: Arc::new(config) })
    }

    /// Sends one POST and says what came back. Exactly `headers` are sent, beside those that HTTP
    /// itself needs (`host`, `content-length`), `accept: */*` and the user agent.
    ///
    /// The status decides: a body that trickles, breaks off or never ends changes nothing, and
    /// what arrived of it within 16 KiB and two seconds is kept for the record.
    pub async fn post(&self, url: &Url, headers: &[(String, String)], body: Bytes) -> Answer {
        let request =
            Request { method: Method::POST, url, headers, body, timeout: self.config.timeout };
        match self.send(request).await {
            Ok(response) => read_answer(response).await,
            Err(Failed { failure, detail }) => Answer::Failed { failure, detail },
        }
    }

    /// Sends one request, and returns when the head of the answer is here.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Response, Failed> {
        self.check_url(request.url)?;
        let headers = header_map(request.headers)?;
        let limits = Limits { connect: self.config.connect_timeout, whole: request.timeout };
        self.http
            .request(request.method, request.url.clone())
            .headers(headers)
            .body(request.body)
            .timeout(request.timeout)
            .send()
            .await
            .map_err(|error| Failed::classify(error, &limits))
    }

    /// Judges what can be judged before a connection is made: the resolver is only asked about
    /// names, so literal addresses have to be stopped here.
    fn check_url(&self, url: &Url) -> Result<(), Failed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failed::new(Failure::Protocol, "the URL is neither http nor https"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => ip.into(),
            Some(Host::Ipv6(ip)) => ip.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Failed::new(Failure::Protocol, "the URL has no host")),
        };
        self.config
            .allow
            .check(literal)
            .map_err(|blocked| Failed::new(Failure::BlockedTarget, blocked.to_string()))
    }
}

/// What [`Client::send`] sends.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

fn builder(config: &Config) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .retry(retry::never())
        .dns_resolver(PolicyResolver::new(config.allow.clone()))
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_AFTER)
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Failed> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let invalid = || Failed::new(Failure::Protocol, format!("the header {name} is not valid"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        // Webhooks' own headers hold credentials: kept out of debug output and of HTTP/2's
        // compression state.
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

async fn read_answer(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(ToOwned::to_owned);
    let mut start = Start::default();
    // Late or broken, the record has what came until then.
    let _ = timeout(BODY_TIME, body::read(&mut response, &mut start)).await;
    Answer::Response { status, retry_after, body: start.into_text() }
}
