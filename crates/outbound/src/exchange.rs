//! One request over one connection, and its result.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, timeout, timeout_at};

use crate::pool::{Connection, Http1, Http2, Origin, Pool};
use crate::stream::{Io, Stream};
use crate::watch::Watch;

/// HTTP/2 flow control: the bytes that a peer may send in advance, for one stream and for one
/// connection. At most 16 KiB of an answer are read, so larger windows would only waste memory.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest headers of an answer over HTTP/2, in bytes.
const HTTP2_HEADERS: u32 = 1024 * 1024;

/// The interval of pings over HTTP/2. All requests to a host share one connection, so without pings
/// all of them would time out on a dead one.
const PING_AFTER: Duration = Duration::from_secs(5);

/// How long a connection may take to accept the next request after its answer was read.
const FREE_TIME: Duration = Duration::from_millis(50);

/// A request, independent of a connection, so that it can be sent again over another one.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The result of sending a request over a connection.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The head of the answer has arrived.
    Answered(Reply),
    /// The receiver has certainly not processed the request.
    NotProcessed {
        error: Option<hyper::Error>,
        /// Whether the receiver demands HTTP/1.1.
        demands_http1: bool,
    },
    /// The connection failed, and the request may have been processed.
    Failed {
        error: hyper::Error,
        /// Whether the receiver sent TLS instead of HTTP.
        looks_like_tls: bool,
    },
    /// There was no answer in time, and the request may have been processed.
    Late,
}

/// The head of an answer, and the source of its body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// The body is read from the connection. An HTTP/1 connection can be used again afterwards.
    Streaming(Incoming, Option<(Http1, Arc<Watch>)>),
    /// The connection is closed; these bytes arrived before.
    Partial(Bytes),
}

/// Makes an open connection ready for requests.
pub(crate) async fn begin(io: Io, is_http2: bool) -> hyper::Result<Connection> {
    if is_http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HTTP2_HEADERS)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_AFTER)
            .handshake(TokioIo::new(Stream::new(io, None)))
            .await?;
        tokio::spawn(run(connection));
        return Ok(Connection::Http2(sender));
    }
    let watch = Arc::new(Watch::default());
    let (sender, connection) = http1::Builder::new()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(Stream::new(io, Some(Arc::clone(&watch)))))
        .await?;
    tokio::spawn(run(connection));
    Ok(Connection::Http1(sender, watch))
}

async fn run(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to a receiver ended");
    }
}

/// Sends a request, and waits for the head of its answer.
pub(crate) async fn send(connection: Connection, message: &Message, deadline: Instant) -> Sent {
    match connection {
        Connection::Http1(sender, watch) => over_http1(sender, watch, message, deadline).await,
        Connection::Http2(sender) => over_http2(sender, message, deadline).await,
    }
}

async fn over_http1(
    mut sender: Http1,
    watch: Arc<Watch>,
    message: &Message,
    deadline: Instant,
) -> Sent {
    let request = message.for_http1();
    watch.begin();
    let result = tokio::select! {
        biased;
        result = sender.try_send_request(request) => Some(result),
        () = watch.late(deadline) => None,
    };
    let result = match result {
        Some(Ok(response)) if watch.has_sent() => {
            return Sent::Answered(Reply::http1(response, sender, watch));
        }
        // An answer that arrived before the request was sent belongs to no request: the server
        // closes an idle connection with it.
        Some(Ok(_)) => return Sent::NotProcessed { error: None, demands_http1: false },
        Some(Err(error)) if error.message().is_some() || !watch.has_sent() => {
            let error = Some(error.into_error());
            return Sent::NotProcessed { error, demands_http1: false };
        }
        Some(Err(error)) => Some(error.into_error()),
        None => None,
    };
    let salvaged = watch.head(|head| Reply {
        status: head.status,
        headers: head.headers(),
        body: Body::Partial(Bytes::copy_from_slice(head.body.unwrap_or_default())),
    });
    match (salvaged, result) {
        (Some(reply), _) => Sent::Answered(reply),
        (None, Some(error)) => Sent::Failed { error, looks_like_tls: watch.looks_like_tls() },
        (None, None) => Sent::Late,
    }
}

async fn over_http2(mut sender: Http2, message: &Message, deadline: Instant) -> Sent {
    match timeout_at(deadline, sender.try_send_request(message.for_http2())).await {
        Ok(Ok(response)) => Sent::Answered(Reply::new(response, None)),
        Ok(Err(error)) => {
            let unsent = error.message().is_some();
            let error = error.into_error();
            let refusal = refusal(&error);
            if unsent || refusal.is_some() {
                let demands_http1 = refusal == Some(Refusal::Http1);
                Sent::NotProcessed { error: Some(error), demands_http1 }
            } else {
                Sent::Failed { error, looks_like_tls: false }
            }
        }
        Err(_) => Sent::Late,
    }
}

/// The ways in which a server says that it has not processed a request over HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// `REFUSED_STREAM`, or a `GOAWAY` below the request's stream.
    Again,
    /// `HTTP_1_1_REQUIRED`.
    Http1,
}

fn refusal(error: &hyper::Error) -> Option<Refusal> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    // A GOAWAY is not the error of a stream that will still be answered.
    match error.reason() {
        _ if !error.is_remote() => None,
        Some(h2::Reason::HTTP_1_1_REQUIRED) => Some(Refusal::Http1),
        Some(h2::Reason::REFUSED_STREAM) => Some(Refusal::Again),
        _ if error.is_go_away() => Some(Refusal::Again),
        _ => None,
    }
}

impl Message {
    fn for_http1(&self) -> Request<Full<Bytes>> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        // Path and query of a URI are a valid URI, so parsing never fails.
        let target = path.parse().unwrap_or_default();
        let mut request = self.request(target);
        let authority = self.uri.authority().map(Authority::as_str);
        let host = authority.and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(host) = host {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        request
    }

    fn for_http2(&self) -> Request<Full<Bytes>> {
        self.request(self.uri.clone())
    }

    fn request(&self, uri: Uri) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Reply {
    fn new(response: Response<Incoming>, back: Option<(Http1, Arc<Watch>)>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: Body::Streaming(body, back),
        }
    }

    fn http1(response: Response<Incoming>, sender: Http1, watch: Arc<Watch>) -> Self {
        let back = watch.is_reusable().then_some((sender, watch));
        Self::new(response, back)
    }
}

impl Body {
    /// Returns the connection to the pool. The body must have been read to its end.
    pub(crate) async fn end(self, pool: &Arc<Pool>, origin: Origin) {
        if let Self::Streaming(_, Some((mut sender, watch))) = self
            && matches!(timeout(FREE_TIME, sender.ready()).await, Ok(Ok(())))
            && !watch.is_broken()
        {
            watch.forget_answer();
            pool.put(origin, Connection::Http1(sender, watch));
        }
    }
}
