//! The client: it sends requests, and turns the results of POSTs into answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure, Trace};
use fanfare_core::quota;
use fanfare_core::target::TargetPolicy;
use hyper::Method;
use hyper::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use thiserror::Error;
use tokio::time::{self, timeout_at};
use url::{Host, Url};

use crate::body::{self, Start};
use crate::connector::Connector;
use crate::destination::Destination;
use crate::exchange::{self, Message, Reply, Sent};
use crate::failure::{Failed, Limits};
use crate::pool::{Connection, Origin, Pool};
use crate::timing::{self, End, Notes};
use crate::tls::{Tls, TlsError};

/// How long the body of an answer is read. The status has decided by then, and the text is only for
/// the ledger. A receiver that sends slowly must not hold a slot for the whole timeout.
const BODY_TIME: Duration = Duration::from_secs(2);

/// The most times that one request is sent, while the receiver says that it has not processed it.
const SENDS: usize = 4;

/// The most bytes of an answer's headers that are kept.
const HEADERS: usize = 2 * 1024;

/// A success over an open connection is recorded with its timing if reading its body takes this
/// long.
const SLOW_BODY: Duration = Duration::from_millis(50);

/// The configuration of a [`Client`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses that requests may be sent to.
    pub allow: TargetPolicy,
    /// The longest time for resolving, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// The longest time for a POST, from resolving to the last byte that is read.
    pub timeout: Duration,
    /// The `user-agent` of requests that don't have one.
    pub user_agent: String,
    /// A PEM file with certificates of authorities to trust, in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether nothing is sent: every request fails before a name is resolved.
    pub sends_nothing: bool,
}

/// The HTTP client. Cloning is cheap, and clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    user_agent: HeaderValue,
    config: Arc<Config>,
}

/// Why the client can't be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The HTTP library can't be set up.
    #[error("building the HTTP client")]
    Http(#[source] reqwest::Error),
    /// The user agent is not a valid header value.
    #[error("building the HTTP client: the user agent is not a valid header")]
    UserAgent(#[source] InvalidHeaderValue),
    /// TLS can't be set up.
    #[error("setting up TLS for the HTTP client")]
    Tls(#[source] TlsError),
}

impl Client {
    /// Builds a client.
    ///
    /// It does not need an installed default crypto provider. If the system has no trust roots at
    /// all, it logs a warning and trusts no `https` address, so that deliveries to `http` addresses
    /// go on.
    ///
    /// # Errors
    ///
    /// The user agent is not a valid header value, the file of authorities can't be used, or TLS
    /// can't be set up.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        let user_agent =
            HeaderValue::from_str(&config.user_agent).map_err(BuildError::UserAgent)?;
        let tls = Tls::new(config.ca_file.clone()).map_err(BuildError::Tls)?;
        let connector = Connector::new(config.allow.clone(), tls, config.connect_timeout);
        Ok(Self { connector, pool: Arc::default(), user_agent, config: Arc::new(config) })
    }

    /// Whether this client sends nothing: every request fails.
    #[must_use]
    pub fn sends_nothing(&self) -> bool {
        self.config.sends_nothing
    }

    /// Sends one POST and returns the answer. It sends exactly `headers`, the headers that HTTP
    /// needs (`host`, `content-length`), `accept: */*`, the user agent, and `authorization` for a
    /// URL with a user.
    ///
    /// Only the status counts: malformed headers, and a body that is slow, incomplete or endless,
    /// change nothing. The first 16 KiB of the body that arrive within two seconds are kept for the
    /// ledger.
    pub async fn post(
        &self,
        to: impl Into<Destination<'_>>,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Answer {
        self.post_traced(to, headers, body).await.0
    }

    /// Sends one POST as [`Client::post`] does, and returns its timing too. The timing is `None`
    /// for a success over a connection that was open already, because then all of the time is the
    /// receiver's.
    pub async fn post_traced(
        &self,
        to: impl Into<Destination<'_>>,
        headers: &[(String, String)],
        body: Bytes,
    ) -> (Answer, Option<Box<Trace>>) {
        let began = Instant::now();
        let (method, to, timeout) = (Method::POST, to.into(), self.config.timeout);
        let request = Request { method, to, echo: None, headers, body, timeout };
        let (result, notes) = timing::noted(self.send(request)).await;
        match result {
            Ok(Answered { mut reply, origin, deadline }) => {
                let head = Instant::now();
                let mut start = Start::default();
                let limit = deadline.min(time::Instant::now() + BODY_TIME);
                // If this is late or fails, the ledger gets the part that has arrived.
                let _ = timeout_at(limit, body::read(&mut reply.body, &mut start)).await;
                let trace = answered(&reply, &notes, began, head);
                let retry_after = reply.headers.get(RETRY_AFTER);
                let retry_after = retry_after.and_then(|value| value.to_str().ok());
                let retry_after = retry_after.map(ToOwned::to_owned);
                let exhausted = exhausted(&reply.headers);
                if start.is_complete() {
                    reply.body.end(&self.pool, origin).await;
                }
                let body = start.into_text();
                (Answer::Response { status: reply.status, retry_after, exhausted, body }, trace)
            }
            Err(Failed { failure, detail, connecting }) => {
                let end =
                    if connecting { End::NoConnection(Instant::now()) } else { End::NoAnswer };
                let trace = notes.trace(began, end);
                (Answer::Failed { failure, detail }, Some(Box::new(trace)))
            }
        }
    }

    /// Sends one request, and returns when the head of the answer has arrived.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answered, Failed> {
        let deadline = time::Instant::now() + request.timeout;
        if self.config.sends_nothing {
            let detail = "nothing is sent to receivers while Fanfare is in shadow mode";
            return Err(Failed::new(Failure::Connect, detail));
        }
        self.check_url(request.to.url())?;
        let mut headers = header_map(request.headers)?;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        if let Some(value) = request.to.authorization() {
            headers.entry(AUTHORIZATION).or_insert(value);
        }
        let uri = request.to.uri(request.echo).ok_or_else(|| {
            Failed::new(Failure::Protocol, "the request could not be built from the URL")
        })?;
        let origin = Origin::of(&uri);
        let message = Message { method: request.method, uri, headers, body: request.body };
        let limits = Limits { connect: self.config.connect_timeout, whole: request.timeout };
        let reply = self.exchange(&message, &origin, deadline, &limits).await?;
        Ok(Answered { reply, origin, deadline })
    }

    /// Sends a message, again if the receiver has not processed it.
    async fn exchange(
        &self,
        message: &Message,
        origin: &Origin,
        deadline: time::Instant,
        limits: &Limits,
    ) -> Result<Reply, Failed> {
        let mut failed = None;
        for turn in 0..SENDS {
            // If one idle connection was closed, the others are likely to be closed too.
            let connection = match self.pool.take(origin, turn > 0) {
                Some(connection) => connection,
                None => self.open(message, origin, deadline, limits).await?,
            };
            match exchange::send(connection, message, deadline).await {
                Sent::Answered(reply) => return Ok(reply),
                Sent::Failed { looks_like_tls: true, .. } => return Err(Failed::is_tls()),
                Sent::Failed { error, .. } => return Err(Failed::in_exchange(&error)),
                Sent::Late => return Err(Failed::late(limits.whole)),
                Sent::NotProcessed { error, demands_http1 } => {
                    if demands_http1 {
                        self.pool.demand_http1(origin);
                    }
                    tracing::debug!(turn, demands_http1, "the receiver did not process a request");
                    failed = Some(Failed::not_processed(error.as_ref()));
                }
            }
        }
        Err(failed.unwrap_or_else(|| Failed::not_processed(None)))
    }

    async fn open(
        &self,
        message: &Message,
        origin: &Origin,
        deadline: time::Instant,
        limits: &Limits,
    ) -> Result<Connection, Failed> {
        let http1_only = self.pool.demands_http1(origin);
        let opened = self.connector.open(&message.uri, http1_only, deadline).await;
        let (io, is_http2) = opened.map_err(|error| Failed::to_open(&error, limits))?;
        let begun = exchange::begin(io, is_http2).await;
        let connection = begun.map_err(|error| Failed::in_exchange(&error))?;
        if let Connection::Http2(sender) = &connection {
            self.pool.put(origin.clone(), Connection::Http2(sender.clone()));
        }
        Ok(connection)
    }

    /// Checks the URL before a connection is opened. The resolver checks the addresses of names
    /// only, so literal addresses are checked here.
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

/// A request for [`Client::send`].
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) to: Destination<'a>,
    /// The value that is added to the query as `echo`.
    pub(crate) echo: Option<&'a str>,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

/// An answer whose body is still to be read.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) origin: Origin,
    /// When the request as a whole must have ended.
    pub(crate) deadline: time::Instant,
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Failed> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let invalid = || Failed::new(Failure::Protocol, format!("the header {name} is not valid"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        // A webhook's own headers may be credentials, so they must not be in debug output or in the
        // compression state of HTTP/2.
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

/// The timing of a POST that got an answer; `None` for a success over an open connection.
fn answered(reply: &Reply, notes: &Notes, began: Instant, head: Instant) -> Option<Box<Trace>> {
    let plain = (200..300).contains(&reply.status)
        && !notes.made_connection()
        && head.elapsed() < SLOW_BODY;
    (!plain).then(|| {
        let (headers, more_headers) = first_headers(&reply.headers);
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
        // Text columns can't store NUL characters.
        let value = String::from_utf8_lossy(value.as_bytes()).replace('\0', "");
        (name.as_str().to_owned(), value)
    };
    let headers: Vec<_> = map.iter().take_while(fits).map(text).collect();
    let more = headers.len() < map.len();
    (headers, more)
}

/// How long the receiver accepts no further request, by its `RateLimit` headers.
fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: &'_ HeaderValue| value.to_str().ok().map(str::to_owned);
    let limits: Vec<String> = headers.get_all("ratelimit").iter().filter_map(text).collect();
    let one = |name: &str| headers.get(name).and_then(text);
    let (remaining, reset) = (one("ratelimit-remaining"), one("ratelimit-reset"));
    let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
    quota::exhausted(&limits, remaining.as_deref(), reset.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_up_to_the_limit() {
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
