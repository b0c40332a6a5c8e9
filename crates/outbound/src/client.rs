//! The client: how requests are sent, and what the answer to a POST is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure, Trace};
use fanfare_core::target::TargetPolicy;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, Method, Response, redirect, retry};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::timeout;
use url::{Host, Url};

use crate::body::{self, Start};
use crate::failed::{Failed, Limits};
use crate::parts::{self, End, Notes, Noting};
use crate::resolver::PolicyResolver;
use crate::tls;

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

/// The most that is kept of the headers of an answer, in bytes.
const HEADERS: usize = 2 * 1024;

/// How much of a plain success may be for reading the body before that is worth being told.
const BODY_WORTH_TELLING: Duration = Duration::from_millis(50);

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
#[non_exhaustive]
pub enum BuildError {
    /// What speaks HTTP can't be set up.
    #[error("building the HTTP client")]
    Http(#[source] reqwest::Error),
    /// TLS can't be set up.
    #[error("setting up TLS for the HTTP client")]
    Tls(#[source] rustls::Error),
}

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
        let tls = tls::config().map_err(BuildError::Tls)?;
        let http = builder(&config, tls).build().map_err(BuildError::Http)?;
        Ok(Self { http, config: Arc::new(config) })
    }

    /// Sends one POST and says what came back. Exactly `headers` are sent, beside those that HTTP
    /// itself needs (`host`, `content-length`), `accept: */*` and the user agent.
    ///
    /// The status decides: a body that trickles, breaks off or never ends changes nothing, and
    /// what arrived of it within 16 KiB and two seconds is kept for the record.
    pub async fn post(&self, url: &Url, headers: &[(String, String)], body: Bytes) -> Answer {
        self.post_traced(url, headers, body).await.0
    }

    /// The same, and how it went. There is nothing to tell of a plain success: one over a
    /// connection that was open already, whose time was the receiver's.
    pub async fn post_traced(
        &self,
        url: &Url,
        headers: &[(String, String)],
        body: Bytes,
    ) -> (Answer, Option<Box<Trace>>) {
        let began = Instant::now();
        let request =
            Request { method: Method::POST, url, headers, body, timeout: self.config.timeout };
        let (result, notes) = parts::noted(self.send(request)).await;
        match result {
            Ok(mut response) => {
                let head = Instant::now();
                let answer = read_answer(&mut response).await;
                let trace = answered(&response, &notes, began, head);
                (answer, trace)
            }
            Err(Failed { failure, detail, connecting }) => {
                let end =
                    if connecting { End::NoConnection(Instant::now()) } else { End::NoAnswer };
                let trace = notes.trace(began, end);
                (Answer::Failed { failure, detail }, Some(Box::new(trace)))
            }
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

fn builder(config: &Config, tls: ClientConfig) -> ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connector_layer(Noting)
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

async fn read_answer(response: &mut Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(ToOwned::to_owned);
    let mut start = Start::default();
    // Late or broken, the record has what came until then.
    let _ = timeout(BODY_TIME, body::read(response, &mut start)).await;
    Answer::Response { status, retry_after, body: start.into_text() }
}

/// How a POST went that got an answer, if there is something to tell.
fn answered(
    response: &Response,
    notes: &Notes,
    began: Instant,
    head: Instant,
) -> Option<Box<Trace>> {
    let plain = response.status().is_success()
        && !notes.made_connection()
        && head.elapsed() < BODY_WORTH_TELLING;
    (!plain).then(|| {
        let (headers, more_headers) = first_headers(response.headers());
        Box::new(Trace { headers, more_headers, ..notes.trace(began, End::Head(head)) })
    })
}

/// The first headers, and whether there are more.
fn first_headers(map: &HeaderMap) -> (Vec<(String, String)>, bool) {
    let mut room = HEADERS;
    let fits = |(name, value): &(&HeaderName, &HeaderValue)| {
        let rest = room.checked_sub(name.as_str().len() + value.len());
        room = rest.unwrap_or_default();
        rest.is_some()
    };
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        // The ledger can't hold NUL characters.
        let value = String::from_utf8_lossy(value.as_bytes()).replace('\0', "");
        (name.as_str().to_owned(), value)
    };
    let headers: Vec<_> = map.iter().take_while(fits).map(text).collect();
    let more = headers.len() < map.len();
    (headers, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_until_there_is_no_room() {
        let mut map = HeaderMap::new();
        map.append("x-one", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        map.append("x-one", HeaderValue::from_static("again"));
        let one = |value: &str| ("x-one".to_owned(), value.to_owned());
        let short = vec![one("caf\u{fffd}"), one("again")];
        assert_eq!(first_headers(&map), (short.clone(), false));
        map.append("x-two", HeaderValue::from_str(&"x".repeat(HEADERS)).unwrap());
        assert_eq!(first_headers(&map), (short, true));
        assert_eq!(first_headers(&HeaderMap::new()), (vec![], false));
    }
}
