//! Servers that refuse requests over HTTP/2, close their connections, or demand HTTP/1.1. The test
//! server writes its own frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_testkit::wait::pass;

use fanfare_core::answer::{Answer, Failure};
use fanfare_outbound::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, Chain, secured};
use crate::{LOOPBACK, config, failed, post, response};

const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;
const HTTP_1_1_REQUIRED: u8 = 13;

/// The server's reaction to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Answers 200; over HTTP/1.1 with the body `one`.
    Http1,
    /// Answers 200 over HTTP/2.
    Answer,
    /// Ends the stream with this code.
    Reset(u8),
    /// Says with this code that it has not processed this request and later ones, and closes.
    GoAwayBelow(u8),
    /// Says that this request was its last, and answers it a little later.
    GoAwayThenAnswer,
    /// Says that this request was its last, and closes without an answer.
    GoAwayThenClose,
    /// Answers with this many headers of 1 KiB.
    Headers(usize),
}

pub(crate) struct Secured {
    port: u16,
    seen: Arc<Mutex<Vec<&'static str>>>,
    task: JoinHandle<()>,
}

impl Secured {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    /// The protocols over which requests were read.
    fn seen(&self) -> Vec<&'static str> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A secured server that takes the steps in order, one for each request, and then the last again.
pub(crate) async fn serve(
    chain: Chain,
    protocols: &[&str],
    steps: impl Into<VecDeque<Step>>,
) -> Secured {
    let acceptor = TlsAcceptor::from(Arc::new(secured(chain, protocols)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, steps) = (Arc::default(), Arc::new(Mutex::new(steps.into())));
    let notes = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, notes) = (acceptor.clone(), Arc::clone(&notes));
            let steps = Arc::clone(&steps);
            connections.spawn(async move {
                let mut stream = acceptor.accept(socket).await.ok()?;
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2(&mut stream, &notes, &steps).await?;
                    stream.shutdown().await.ok()
                } else {
                    http1(&mut stream, &notes).await
                }
            });
        }
    });
    Secured { port, seen, task }
}

async fn http1(stream: &mut TlsStream<TcpStream>, seen: &Mutex<Vec<&'static str>>) -> Option<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\"Attempt\":1}") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        seen.lock().unwrap().push("http/1.1");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn go_away(last: u32, code: u8) -> Vec<u8> {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend([0, 0, 0, code]);
    frame(7, 0, 0, &payload)
}

/// Headers with the status 200, and the end of the stream.
fn ok(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &[0x88])
}

/// Serves one connection until a step closes it.
async fn http2(
    stream: &mut TlsStream<TcpStream>,
    seen: &Mutex<Vec<&'static str>>,
    steps: &Mutex<VecDeque<Step>>,
) -> Option<()> {
    stream.read_exact(&mut [0; 24]).await.ok()?;
    stream.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let id = u32::from_be_bytes(id);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        match (kind, flags & 1) {
            (4, 0) => stream.write_all(&frame(4, 1, 0, &[])).await.ok()?,
            (6, 0) => stream.write_all(&frame(6, 1, 0, &payload)).await.ok()?,
            (0 | 1, 1) => {
                seen.lock().unwrap().push("h2");
                let step = {
                    let mut steps = steps.lock().unwrap();
                    if steps.len() > 1 { steps.pop_front()? } else { *steps.front()? }
                };
                if !take(stream, id, step).await? {
                    return Some(());
                }
            }
            _ => {}
        }
        stream.flush().await.ok()?;
    }
}

/// Takes a step, and says whether the connection goes on.
async fn take(stream: &mut TlsStream<TcpStream>, id: u32, step: Step) -> Option<bool> {
    let bytes = match step {
        Step::Http1 | Step::Answer => ok(id),
        Step::Reset(code) => frame(3, 0, id, &[0, 0, 0, code]),
        Step::GoAwayBelow(code) => {
            stream.write_all(&go_away(id.saturating_sub(2), code)).await.ok()?;
            return Some(false);
        }
        Step::GoAwayThenAnswer => {
            stream.write_all(&go_away(id, 0)).await.ok()?;
            stream.flush().await.ok()?;
            pass(Duration::from_millis(300)).await;
            stream.write_all(&ok(id)).await.ok()?;
            return Some(false);
        }
        Step::GoAwayThenClose => {
            stream.write_all(&go_away(id, 0)).await.ok()?;
            return Some(false);
        }
        Step::Headers(count) => {
            // Literal headers that are not indexed: `x-long`, and 1,024 bytes.
            let mut block = vec![0x88];
            for _ in 0..count {
                block.extend(b"\x00\x06x-long\x7f\x81\x07");
                block.extend([b'y'; 1024]);
            }
            let parts = block.len().div_ceil(16 * 1024);
            let mut headers = Vec::new();
            for (n, part) in block.chunks(16 * 1024).enumerate() {
                let kind = if n == 0 { (1, 1) } else { (9, 0) };
                let end = if n + 1 == parts { 4 } else { 0 };
                headers.extend(frame(kind.0, kind.1 | end, id, part));
            }
            headers
        }
    };
    stream.write_all(&bytes).await.ok()?;
    Some(true)
}

/// The answers to `posts` POSTs to a server that takes these steps, and the protocol of each
/// request.
async fn outcomes(steps: &[Step], posts: usize) -> (Vec<Answer>, Vec<&'static str>) {
    let authority = Authority::new();
    let steps: VecDeque<Step> = steps.iter().copied().collect();
    let server = serve(authority.localhost(), &["h2", "http/1.1"], steps).await;
    let ca_file = Some(authority.file());
    let client = Client::new(Config { ca_file, ..config(LOOPBACK) }).unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..posts {
        outcomes.push(post(&client, &server.url()).await);
    }
    (outcomes, server.seen())
}

#[tokio::test]
async fn a_refused_request_is_sent_again_within_the_attempt() {
    for refusal in
        [Step::Reset(REFUSED_STREAM), Step::GoAwayBelow(0), Step::GoAwayBelow(REFUSED_STREAM)]
    {
        let (answers, seen) = outcomes(&[Step::Answer, refusal, Step::Answer], 3).await;
        assert_eq!(answers, vec![response(200, ""); 3], "{refusal:?}");
        assert_eq!(seen, ["h2"; 4], "{refusal:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_always_refused_is_sent_four_times() {
    let (answers, seen) = outcomes(&[Step::Reset(REFUSED_STREAM)], 1).await;
    let detail = "the server refused the request each time before reading it";
    assert_eq!(answers, [failed(Failure::Connect, detail)]);
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_server_that_demands_http_1_1_gets_all_later_requests_over_it() {
    for demand in [Step::Reset(HTTP_1_1_REQUIRED), Step::GoAwayBelow(HTTP_1_1_REQUIRED)] {
        let (answers, seen) = outcomes(&[demand], 3).await;
        assert_eq!(answers, vec![response(200, "one"); 3], "{demand:?}");
        assert_eq!(seen, ["h2", "http/1.1", "http/1.1", "http/1.1"], "{demand:?}");
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_waits_for_its_answer() {
    let (answers, seen) = outcomes(&[Step::GoAwayThenAnswer, Step::Answer], 2).await;
    assert_eq!(answers, vec![response(200, ""); 2]);
    assert_eq!(seen, ["h2"; 2]);
}

#[tokio::test]
async fn a_request_after_a_goaway_uses_another_connection() {
    let authority = Authority::new();
    let steps = [Step::GoAwayThenAnswer, Step::Answer];
    let server = serve(authority.localhost(), &["h2"], steps).await;
    let ca_file = Some(authority.file());
    let client = Client::new(Config { ca_file, ..config(LOOPBACK) }).unwrap();
    let url = server.url();
    let beside = async {
        while server.seen().is_empty() {
            pass(Duration::from_millis(5)).await;
        }
        // The GOAWAY frame has probably arrived by then.
        pass(Duration::from_millis(100)).await;
        post(&client, &url).await
    };
    let (first, second) = tokio::join!(post(&client, &url), beside);
    assert_eq!((first, second), (response(200, ""), response(200, "")));
    assert_eq!(server.seen(), ["h2"; 2]);
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_never_sent_again() {
    for step in [Step::GoAwayThenClose, Step::Reset(CANCEL), Step::Reset(0)] {
        let (answers, seen) = outcomes(&[step, Step::Answer], 1).await;
        assert!(matches!(answers[..], [Answer::Failed { .. }]), "{step:?} {answers:?}");
        assert_eq!(seen, ["h2"], "{step:?}");
    }
}

#[tokio::test]
async fn long_headers_over_http2_count() {
    let (answers, _) = outcomes(&[Step::Headers(300)], 1).await;
    assert_eq!(answers, [response(200, "")]);
}
