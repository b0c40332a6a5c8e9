//! A raw HTTP/1.1 server for tests. Its answers are arbitrary bytes, or missing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_testkit::wait::pass;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server's reaction to a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Sends the bytes, and waits for the next request on the connection.
    Bytes(Vec<u8>),
    /// Sends the bytes, and then single bytes without end.
    Trickle(Vec<u8>),
    /// Sends the bytes, and then as much as the peer takes.
    Endless(Vec<u8>),
    /// Sends nothing and keeps the connection.
    Hang,
    /// Sends the bytes and ends the connection in order.
    Close(Vec<u8>),
    /// Sends the bytes and resets the connection.
    Reset(Vec<u8>),
    /// Sends the bytes when it has read the head of the request, and closes the connection, or
    /// resets it, while the body is still coming.
    Early(Vec<u8>, bool),
}

/// A server on a free loopback port. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

impl Server {
    /// Answers the requests with `replies` in order, and all that follow with the last.
    pub(crate) async fn start(replies: impl Into<VecDeque<Reply>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let replies = Arc::new(Mutex::new(replies.into()));
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), replies));
        Self { port, seen, task }
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("http://127.0.0.1:{}{rest}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// The requests that came, head and body, as text.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with a length, so that the connection can be used again.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn accept(
    listener: TcpListener,
    seen: Arc<Mutex<Seen>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.lock().unwrap().connections += 1;
        connections.spawn(serve(stream, Arc::clone(&seen), Arc::clone(&replies)));
    }
}

/// Serves one connection; `None` when the peer has closed it.
async fn serve(
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (head, length) = read_head(&mut stream).await?;
        let early = match replies.lock().unwrap().front()? {
            Reply::Early(bytes, reset) => Some((bytes.clone(), *reset)),
            _ => None,
        };
        if let Some((bytes, reset)) = early {
            stream.write_all(&bytes).await.ok()?;
            // The client's system has the answer before the connection breaks.
            pass(Duration::from_millis(100)).await;
            if reset {
                stream.get_ref().set_zero_linger().ok()?;
            }
            return None;
        }
        let request = read_body(&mut stream, head, length).await?;
        seen.lock().unwrap().requests.push(request);
        let reply = {
            let mut replies = replies.lock().unwrap();
            if replies.len() > 1 { replies.pop_front()? } else { replies.front()?.clone() }
        };
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Reply::Trickle(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                loop {
                    tick.tick().await;
                    stream.write_all(b"x").await.ok()?;
                }
            }
            Reply::Endless(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                loop {
                    stream.write_all(&[b'x'; 4096]).await.ok()?;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return None;
            }
            Reply::Reset(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.get_ref().set_zero_linger().ok()?;
                return None;
            }
            Reply::Early(..) => return None,
        }
    }
}

/// The head of a request, and the length of its body.
async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut length = 0;
    loop {
        let start = text.len();
        if stream.read_line(&mut text).await.ok()? == 0 {
            return None;
        }
        let line = text.get(start..)?.trim_end();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    Some((text, length))
}

async fn read_body(
    stream: &mut BufReader<TcpStream>,
    mut text: String,
    length: usize,
) -> Option<String> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.push_str(&String::from_utf8(body).ok()?);
    Some(text)
}
