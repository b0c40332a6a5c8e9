//! Connections that the receiver closes while they are idle. The runtime does not notice it before
//! the next request, because its only thread is blocked until the receiver has closed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use fanfare_outbound::{Client, Config};
use rustix::net::sockopt::set_socket_linger;
use rustls::ServerConnection;

use crate::authority::{Authority, secured};
use crate::{LOOPBACK, client, config, post, response};

/// How the receiver ends each connection after one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    /// Answers 408 and closes.
    TimedOut,
}

/// Starts a receiver that closes each connection on a signal. Returns its port, the number of
/// requests that it has read, the sender of that signal, and a receiver that gets a message after
/// each close.
fn receiver(
    end: End,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> (u16, Arc<AtomicUsize>, Sender<()>, Receiver<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (close, signal) = channel();
    let (closed, seen) = channel();
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            if let Some(tls) = &tls {
                let mut session = ServerConnection::new(Arc::clone(tls)).unwrap();
                let mut stream = rustls::Stream::new(&mut session, &mut socket);
                answer_once(&mut stream, &count);
                signal.recv().unwrap();
                stream.conn.send_close_notify();
                let _ = stream.flush();
            } else {
                answer_once(&mut socket, &count);
                signal.recv().unwrap();
                if end == End::TimedOut {
                    let late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    socket.write_all(late).unwrap();
                }
            }
            end_of(socket, end);
            closed.send(()).unwrap();
        }
    });
    (port, read, close, seen)
}

fn answer_once(stream: &mut (impl Read + Write), count: &AtomicUsize) {
    let mut request = Vec::new();
    // The body of each request here ends so.
    while !request.ends_with(b"\"Attempt\":1}") {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "the request is whole");
        request.extend_from_slice(&part[..length]);
    }
    count.fetch_add(1, Ordering::SeqCst);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    stream.flush().unwrap();
}

fn end_of(socket: TcpStream, end: End) {
    if end == End::Reset {
        set_socket_linger(&socket, Some(std::time::Duration::ZERO)).unwrap();
    }
    drop(socket);
}

async fn check(client: &Client, scheme: &str, end: End, tls: Option<Arc<rustls::ServerConfig>>) {
    let (port, read, close, closed) = receiver(end, tls);
    let url = format!("{scheme}://localhost:{port}/");
    for turn in 1..=20 {
        assert_eq!(post(client, &url).await, response(200, "ok"), "{scheme} {end:?} {turn}");
        assert_eq!(read.load(Ordering::SeqCst), turn, "no request is sent twice");
        close.send(()).unwrap();
        // Blocks the runtime.
        closed.recv().unwrap();
    }
}

#[tokio::test]
async fn an_attempt_succeeds_if_its_idle_connection_was_closed() {
    for end in [End::Fin, End::Reset, End::TimedOut] {
        check(&client(LOOPBACK), "http", end, None).await;
    }
}

#[tokio::test]
async fn an_attempt_succeeds_if_its_idle_tls_connection_was_closed() {
    let authority = Authority::new();
    let ca_file = Some(authority.file());
    let client = Client::new(Config { ca_file, ..config(LOOPBACK) }).unwrap();
    let tls = Arc::new(secured(authority.localhost(), &["http/1.1"]));
    for end in [End::Fin, End::Reset] {
        check(&client, "https", end, Some(Arc::clone(&tls))).await;
    }
}
