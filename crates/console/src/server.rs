//! Connections: how many, how long they may take to say what they want and to read the answer, and
//! how they end.
//!
//! A connection that says nothing, or does not read what it asked for, is closed after a while. When
//! all slots are taken that happens at once to the one that can best be spared (`slots`), so that a
//! new connection never waits for the good will of others.

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

use crate::peer::Peer;
use crate::routes;
use slots::{Slot, Slots, Times};
use stream::Watched;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 512;
/// How long a connection may wait for its peer. Idle ones stay longer than common proxies keep them:
/// nginx and AWS 60 s, Caddy and IIS 2 min, Google Cloud 10 min. Who closes first should be the
/// proxy, which knows that it is about to send no request; what it sends on a connection that is
/// being closed is answered with 502.
const TIMES: Times = Times { head: Duration::from_secs(30), idle: Duration::from_mins(11) };
/// The longest time for which a peer may take nothing of an answer.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long a connection may be used before it is asked to end after the current answer, …
const LIFE: Duration = Duration::from_mins(10);
/// … and how long it has for that.
const LAST_ANSWER: Duration = Duration::from_mins(1);
/// The size, in bytes, from which on the head of a request is too large; one read may pass it.
const MAX_HEAD: usize = 64 * 1024;
/// The most headers of a request.
const MAX_HEADERS: usize = 100;
/// The pause after a connection could not be accepted, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are under way at the end may take: less than a process has to end in.
const GRACE: Duration = Duration::from_secs(20);
/// What a connection gets for which there is no slot.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Connection: close\r\nContent-Length: 0\r\n\r\n";

/// What the kernel keeps of an answer that the peer does not read yet, in bytes. Left to itself it
/// keeps megabytes for each connection.
const SEND_BUFFER: u32 = 128 * 1024;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address. What it accepts inherits the size of the buffer.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A console that is started again takes the place of the one before at once.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is cancelled, and then what is under way.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!("listening on http://{address}"),
        Err(error) => tracing::warn!(%error, "listening on an address that can't be told"),
    }
    let connections = Connections::new(router, TIMES);
    let slots = Slots::new(MAX_CONNECTIONS);
    // Owns all connections: what is still there at the end is closed with it.
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
        tracing::warn!("requests that took too long are broken off");
    }
}

/// Says that there is no slot, if the peer's buffer has room for that, and closes.
fn refuse(stream: &TcpStream, peer: IpAddr) {
    tracing::debug!(%peer, "refused a connection: all slots are taken by others in use");
    // A peer that does not get it sees the connection close.
    let _ = stream.try_write(FULL);
}

struct Connections {
    router: Router,
    graceful: GracefulShutdown,
    http: http1::Builder,
    times: Times,
}

impl Connections {
    fn new(router: Router, times: Times) -> Self {
        Self { router, graceful: GracefulShutdown::new(), http: http(times), times }
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
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answering = activity.answering(!request.body().is_end_stream());
            let answer = router.clone().map_request(routes::fold::<Incoming>).oneshot(request);
            async move {
                let mut answer = answer.await;
                drop(answering);
                if let Ok(answer) = &mut answer
                    && since.elapsed() > LIFE
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
        let times = self.times;
        async move {
            tokio::select! {
                served = watched => if let Err(error) = served {
                    tracing::debug!(%error, "a connection broke");
                },
                () = slot.evicted() => {
                    tracing::debug!(%peer, "closed a connection to make room for another");
                }
                () = slot.overdue(times) => {
                    tracing::debug!(%peer, "closed a connection that sent no request");
                }
                // The last request may come at the end of what an idle connection has.
                () = sleep(LIFE + times.idle + LAST_ANSWER) => {
                    tracing::debug!(%peer, "closed a connection that was open for too long");
                }
            }
        }
    }
}

fn http(times: Times) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // From the last answer on, whatever trickles in: `Slot::overdue` knows more of it.
        .header_read_timeout(times.idle + times.head)
        .max_buf_size(MAX_HEAD)
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

    /// A server of one answer, and a way to connect to it.
    async fn served(times: Times) -> (JoinSet<()>, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "answer").post(async || "answer"));
        let connections = Connections::new(router, times);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (slots, mut open) = (Slots::new(10), JoinSet::new());
            while let Ok((stream, peer)) = listener.accept().await {
                let slot = slots.take(peer.ip()).unwrap();
                open.spawn(connections.serve(stream, peer.ip(), slot));
            }
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
        let (_serving, address) = served(Times { head: SHORT, idle: LONG }).await;
        let mut idle = Vec::new();
        for request in [GET, POST] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream, request).await;
            idle.push(stream);
        }
        // What says nothing at all, half of a head, and half of a second one.
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
        let (_serving, address) = served(Times { head: LONG, idle: SHORT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, GET).await;
        assert_eq!(timeout(LONG, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }

    #[test]
    fn idle_connections_outlive_what_common_proxies_keep() {
        assert!(TIMES.idle > Duration::from_mins(10), "Google Cloud's load balancers");
        assert!(TIMES.head <= Duration::from_secs(30));
    }
}
