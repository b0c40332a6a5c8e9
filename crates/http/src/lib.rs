//! The HTTP server of every process. It limits the number of connections, the time for sending a
//! request, and the time for reading the answer, and it ends connections gracefully.
//!
//! A connection that sends nothing, or does not read its answer, is closed after a while. When all
//! slots are in use, the server closes one connection at once (`slots` chooses it), so that a new
//! connection does not depend on the behaviour of others.

mod slots;
mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use slots::{Slot, Slots};
use stream::Watched;

/// The longest time for which a peer may take nothing of an answer.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take for its last answer.
const LAST_ANSWER: Duration = Duration::from_mins(1);
/// The maximum number of headers in a request.
const MAX_HEADERS: usize = 100;
/// The pause after a connection could not be accepted, mostly because file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the requests in progress may take after `stop`. It is shorter than the time that a
/// process has for its shutdown.
const GRACE: Duration = Duration::from_secs(20);
/// The answer to a connection for which there is no slot.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Connection: close\r\nContent-Length: 0\r\n\r\n";

/// The size of the kernel's send buffer, in bytes. By default the kernel buffers megabytes for each
/// connection whose peer does not read.
const SEND_BUFFER: u32 = 128 * 1024;
/// The number of connections that the kernel queues until they are accepted.
const BACKLOG: u32 = 1024;

/// The limits of a server for its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of connections at a time.
    pub connections: usize,
    /// How long the head of a request may take, from its first byte to its last; a new connection
    /// begins with it.
    pub head: Duration,
    /// How long a connection may be idle between an answer and the next request.
    pub idle: Duration,
    /// How long a connection may be used before it is asked to end after the current answer. With
    /// zero it serves one request.
    pub life: Duration,
    /// The size, in bytes, from which the head of a request is too large; one read may pass it.
    pub max_head: usize,
}

/// Listens on an address. Accepted connections inherit the size of the send buffer.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted process can use the address of its predecessor at once.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The address that sends a request: the last proxy's, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Serves until `stop` is cancelled, and then finishes the requests in progress. Each request has
/// its [`Peer`] as an extension. Connections end when the future is dropped.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: &CancellationToken,
) {
    let connections = Connections::new(router, limits);
    let slots = Slots::new(limits.connections);
    // This set owns all connections: those that are open at the end are closed with it.
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = peer.ip().to_canonical();
                    match slots.take(peer) {
                        Some(slot) => drop(open.spawn(connections.serve(stream, peer, slot))),
                        None => refuse(&stream, peer),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(GRACE, connections.graceful.shutdown()).await.is_err() {
        tracing::warn!("closed connections whose requests took too long to finish");
    }
}

/// Answers that there is no slot, if the peer's buffer has room for the answer, and closes the
/// connection.
fn refuse(stream: &TcpStream, peer: IpAddr) {
    tracing::debug!(%peer, "refused a connection: all slots are in use");
    // A peer that does not get the answer sees the connection close.
    let _ = stream.try_write(FULL);
}

struct Connections {
    router: Router,
    graceful: GracefulShutdown,
    http: http1::Builder,
    limits: Limits,
}

impl Connections {
    fn new(router: Router, limits: Limits) -> Self {
        Self { router, graceful: GracefulShutdown::new(), http: http(limits), limits }
    }

    fn serve(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        slot: Slot,
    ) -> impl Future<Output = ()> + Send + use<> {
        let router = self.router.clone();
        let activity = Arc::clone(slot.activity());
        let since = Instant::now();
        let limits = self.limits;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answering = activity.answering(!request.body().is_end_stream());
            let answer = router.clone().oneshot(request);
            async move {
                let mut answer = answer.await;
                drop(answering);
                if let Ok(answer) = &mut answer
                    && since.elapsed() > limits.life
                {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                answer
            }
        });
        let stream = Watched::new(stream, Arc::clone(slot.activity()), WRITE_TIME);
        let service = TowerToHyperService::new(service);
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let watched = self.graceful.watch(connection);
        async move {
            tokio::select! {
                served = watched => if let Err(error) = served {
                    tracing::debug!(%error, "a connection broke");
                },
                () = slot.evicted() => {
                    tracing::debug!(%peer, "closed a connection to make room for another");
                }
                () = slot.overdue(limits) => {
                    tracing::debug!(%peer, "closed a connection that sent no request");
                }
                // The last request may arrive at the end of the idle time.
                () = sleep(limits.life + limits.idle + LAST_ANSWER) => {
                    tracing::debug!(%peer, "closed a connection that was open for too long");
                }
            }
        }
    }
}

fn http(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // This counts from the last answer, whatever arrives; `Slot::overdue` has the exact rule.
        .header_read_timeout(limits.idle + limits.head)
        .max_buf_size(limits.max_head)
        .max_headers(MAX_HEADERS);
    http
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LONG: Duration = Duration::from_mins(5);
    const SHORT: Duration = Duration::from_secs(2);

    fn limits(head: Duration, idle: Duration) -> Limits {
        Limits { connections: 10, head, idle, life: LONG, max_head: 64 * 1024 }
    }

    /// A server of one answer, and a way to connect to it.
    async fn served(limits: Limits) -> (JoinSet<()>, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "answer").post(async || "answer"));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            serve(listener, router, limits, &CancellationToken::new()).await;
        });
        (serving, address)
    }

    async fn ask(stream: &mut TcpStream, request: &str) {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"answer") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";

    #[tokio::test]
    async fn an_idle_connection_outlives_those_that_do_not_finish_a_head() {
        let (_serving, address) = served(limits(SHORT, LONG)).await;
        let mut idle = Vec::new();
        for request in [GET, POST] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream, request).await;
            idle.push(stream);
        }
        // One sends nothing, one half of a head, and one half of a second head.
        for (before, head) in [(false, ""), (false, &GET[..20]), (true, &GET[..20])] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if before {
                ask(&mut stream, GET).await;
            }
            stream.write_all(head.as_bytes()).await.unwrap();
            timeout(LONG, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        }
        for stream in &mut idle {
            ask(stream, GET).await;
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_in_the_end() {
        let (_serving, address) = served(limits(LONG, SHORT)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, GET).await;
        assert_eq!(timeout(LONG, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_without_a_life_serves_one_request() {
        let once = Limits { life: Duration::ZERO, ..limits(LONG, LONG) };
        let (_serving, address) = served(once).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("answer"), "{answer}");
    }
}
