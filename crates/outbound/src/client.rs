//! The client: how requests are sent, and what the answer to a POST is.

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
use crate::failed::{Failed, Limits};
use crate::parts::{self, End, Notes};
use crate::pool::{Connection, Origin, Pool};
use crate::tls::{Tls, TlsError};

/// How long the body of an answer is read. The status has decided by then; the text is for the
/// record, and a trickling receiver must not hold a slot for the whole timeout.
const BODY_TIME: Duration = Duration::from_secs(2);

/// How often one request is sent at most, while the receiver says that it processed nothing of it.
const SENDS: usize = 4;

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
    /// A PEM file with certificates of further authorities that receivers' certificates may be
    /// signed by, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// The HTTP client. Cloning is cheap, and clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    user_agent: HeaderValue,
    config: Arc<Config>,
}

/// The client could not be built, for example for a user agent that is no header value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What speaks HTTP can't be set up.
    #[error("building the HTTP client")]
    Http(#[source] reqwest::Error),
    /// The user agent is no header value.
    #[error("building the HTTP client: the user agent is not a valid header")]
    UserAgent(#[source] InvalidHeaderValue),
    /// TLS can't be set up.
    #[error("setting up TLS for the HTTP client")]
    Tls(#[source] TlsError),
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
    /// The user agent is not a valid header value, the file of further authorities can't be used, or
    /// the TLS parts can't be set up.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        let user_agent =
            HeaderValue::from_str(&config.user_agent).map_err(BuildError::UserAgent)?;
        let tls = Tls::new(config.ca_file.clone()).map_err(BuildError::Tls)?;
        let connector = Connector::new(config.allow.clone(), tls, config.connect_timeout);
        Ok(Self { connector, pool: Arc::default(), user_agent, config: Arc::new(config) })
    }

    /// Sends one POST and says what came back. Exactly `headers` are sent, beside those that HTTP
    /// itself needs (`host`, `content-length`), `accept: */*`, the user agent, and `authorization`
    /// for a URL with a user.
    ///
    /// The status decides: headers that break the standard, and a body that trickles, breaks off or
    /// never ends, change nothing. What arrived of the body within 16 KiB and two seconds is kept
    /// for the record.
    pub async fn post(
        &self,
        to: impl Into<Destination<'_>>,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Answer {
        self.post_traced(to, headers, body).await.0
    }

    /// The same, and how it went. There is nothing to tell of a plain success: one over a
    /// connection that was open already, whose time was the receiver's.
    pub async fn post_traced(
        &self,
        to: impl Into<Destination<'_>>,
        headers: &[(String, String)],
        body: Bytes,
    ) -> (Answer, Option<Box<Trace>>) {
        let began = Instant::now();
        let (method, to, timeout) = (Method::POST, to.into(), self.config.timeout);
        let request = Request { method, to, echo: None, headers, body, timeout };
        let (result, notes) = parts::noted(self.send(request)).await;
        match result {
            Ok(Answered { mut reply, origin, deadline }) => {
                let head = Instant::now();
                let mut start = Start::default();
                let limit = deadline.min(time::Instant::now() + BODY_TIME);
                // Late or broken, the record has what came until then.
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

    /// Sends one request, and returns when the head of the answer is here.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answered, Failed> {
        let deadline = time::Instant::now() + request.timeout;
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

    /// Sends a message until the receiver takes it.
    async fn exchange(
        &self,
        message: &Message,
        origin: &Origin,
        deadline: time::Instant,
        limits: &Limits,
    ) -> Result<Reply, Failed> {
        let mut failed = None;
        for turn in 0..SENDS {
            // The first that was idle was closed, so the others are likely to be.
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
                    tracing::debug!(turn, demands_http1, "the receiver processed nothing of it");
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
    pub(crate) to: Destination<'a>,
    /// What is added to the query as `echo`.
    pub(crate) echo: Option<&'a str>,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

/// An answer whose body is still to be read.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) origin: Origin,
    /// When the request as a whole has to be over.
    pub(crate) deadline: time::Instant,
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

/// How a POST went that got an answer, if there is something to tell.
fn answered(reply: &Reply, notes: &Notes, began: Instant, head: Instant) -> Option<Box<Trace>> {
    let plain = (200..300).contains(&reply.status)
        && !notes.made_connection()
        && head.elapsed() < BODY_WORTH_TELLING;
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
        // The ledger can't hold NUL characters.
        let value = String::from_utf8_lossy(value.as_bytes()).replace('\0', "");
        (name.as_str().to_owned(), value)
    };
    let headers: Vec<_> = map.iter().take_while(fits).map(text).collect();
    let more = headers.len() < map.len();
    (headers, more)
}

/// For how long the receiver takes nothing more, by its `RateLimit` headers.
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
