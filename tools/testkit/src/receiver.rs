//! A receiver of webhooks that keeps the requests and answers them as a test wants, also badly.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::http::read_request;
use crate::mutex::hold;
use crate::wait::eventually;

pub use crate::http::Request;

/// Connections at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Requests that are kept; later ones are answered and counted only.
const MAX_KEPT: usize = 200_000;

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// As HTTP wants it.
    Answer {
        status: u16,
        /// Headers besides `content-length`.
        headers: Vec<(String, String)>,
        body: Bytes,
    },
    /// The reply, but not before some time.
    After(Duration, Box<Reply>),
    /// Nothing ever comes, and the connection stays open.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset without an answer.
    Reset,
    /// The answer's head, then its body, a byte at a time.
    Trickle {
        status: u16,
        /// The time before each byte.
        pause: Duration,
        body: Bytes,
    },
    /// The answer's head and a body that has no end.
    Endless { status: u16 },
}

impl Reply {
    /// An answer with no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// An answer with a body.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// The same with one more header. Replies other than [`Reply::Answer`] have none.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same, but not before `delay`.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

type Answering = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A receiver on a port of 127.0.0.1; it closes its connections when it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    keeps_requests: AtomicBool,
    n_requests: AtomicUsize,
    n_connections: AtomicUsize,
    answering: Mutex<Arc<Answering>>,
}

impl Receiver {
    /// Starts a receiver that answers 200 with no body.
    ///
    /// # Panics
    ///
    /// If there is no port to listen on.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = listener.and_then(|it| Ok((it.local_addr()?, it)));
        let (addr, listener) =
            bound.unwrap_or_else(|error| panic!("the receiver can't listen: {error}"));
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            keeps_requests: AtomicBool::new(true),
            n_requests: AtomicUsize::new(0),
            n_connections: AtomicUsize::new(0),
            answering: Mutex::new(Arc::new(|_, _| Reply::status(200))),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    /// Where the receiver listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Decides the answers from now on, by the request and the number of requests before it.
    pub fn answer_with(&self, answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) {
        *hold(&self.shared.answering) = Arc::new(answer);
    }

    /// Keeps no request from now on: who decides the answers sees each of them.
    pub fn keep_no_requests(&self) {
        self.shared.keeps_requests.store(false, Ordering::SeqCst);
    }

    /// All requests so far, in the order they were complete; the first 200,000 of them.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        hold(&self.shared.requests).clone()
    }

    /// How many requests have come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.n_requests.load(Ordering::SeqCst)
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.n_connections.load(Ordering::SeqCst)
    }

    /// Waits until `n` requests have come, and returns all of them.
    ///
    /// # Panics
    ///
    /// If they don't come in time.
    pub async fn wait_for(&self, n: usize, timeout: Duration) -> Vec<Request> {
        eventually(&format!("{n} requests at the receiver"), timeout, async || {
            let count = self.count();
            if count >= n { Ok(()) } else { Err(format!("{count} requests")) }
        })
        .await;
        self.requests()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Owns all connections: they close when it is dropped.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Some((stream, slot)) = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                let (stream, _) = listener.accept().await.ok()?;
                Some((stream, slot))
            } => {
                shared.n_connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // A broken connection is the sender's fault, or intended by the test.
                    let _ = serve(stream, &shared).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let answering = Arc::clone(&hold(&shared.answering));
        let wants_close =
            request.header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        let mut reply = shared.take(&request, answering.as_ref());
        while let Reply::After(delay, then) = reply {
            tokio::time::sleep(delay).await;
            reply = *then;
        }
        let stays_open = send(&mut stream, reply).await?;
        if wants_close || !stays_open {
            break;
        }
    }
    Ok(())
}

impl Shared {
    /// Keeps a request and decides its answer.
    fn take(&self, request: &Request, answering: &Answering) -> Reply {
        let n_before = {
            let mut requests = hold(&self.requests);
            if self.keeps_requests.load(Ordering::SeqCst) && requests.len() < MAX_KEPT {
                requests.push(request.clone());
            }
            // Counted last, so that a test that sees the count finds the request.
            self.n_requests.fetch_add(1, Ordering::SeqCst)
        };
        answering(request, n_before)
    }
}

/// Sends a reply, and returns whether the connection can take another request.
async fn send(stream: &mut TcpStream, reply: Reply) -> io::Result<bool> {
    match reply {
        Reply::Answer { status, headers, body } => {
            let mut answer = head(status, &headers, Some(body.len()));
            answer.extend_from_slice(&body);
            stream.write_all(&answer).await?;
            Ok(true)
        }
        Reply::After(..) | Reply::Close => Ok(false),
        Reply::Hang => {
            // Ends when the sender gives up.
            while stream.read_buf(&mut BytesMut::with_capacity(1024)).await? > 0 {}
            Ok(false)
        }
        Reply::Reset => {
            stream.set_zero_linger()?;
            Ok(false)
        }
        Reply::Trickle { status, pause, body } => {
            stream.write_all(&head(status, &[], Some(body.len()))).await?;
            for byte in body {
                tokio::time::sleep(pause).await;
                stream.write_u8(byte).await?;
            }
            Ok(true)
        }
        Reply::Endless { status } => {
            stream.write_all(&head(status, &[], None)).await?;
            let chunk = [b'x'; 4096];
            // Ends with an error when the sender closes.
            loop {
                stream.write_all(&chunk).await?;
            }
        }
    }
}

fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> Vec<u8> {
    use std::fmt::Write;
    let mut head = format!("HTTP/1.1 {status} -\r\n");
    for (name, value) in headers {
        // Writing to a string can't fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = match length {
        // These two have no body by definition, and no length either.
        Some(_) if matches!(status, 204 | 304) => write!(head, "\r\n"),
        Some(length) => write!(head, "content-length: {length}\r\n\r\n"),
        None => write!(head, "connection: close\r\n\r\n"),
    };
    head.into_bytes()
}
