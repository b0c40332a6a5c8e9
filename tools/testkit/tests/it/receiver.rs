//! The receiver: it keeps its requests, and gives good and bad answers.

use std::io;
use std::time::{Duration, Instant};

use fanfare_testkit::receiver::{Receiver, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far more than a loopback needs, far less than a test's limit.
const SOON: Duration = Duration::from_secs(5);
/// A receiver that must not answer is given this time to fail.
const MOMENT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn keeps_requests_over_one_connection() {
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, n| Reply::text(200, format!("{n}:{}", request.path)));
    let mut stream = TcpStream::connect(receiver.addr()).await.unwrap();
    post(&mut stream, "/a?b=c", "one").await;
    assert!(read_until(&mut stream, "0:/a?b=c").await.starts_with("HTTP/1.1 200 "));
    // Both at once: the second one must not be lost with the first one's bytes.
    post(&mut stream, "/two", "two").await;
    post(&mut stream, "/three", "").await;
    read_until(&mut stream, "2:/three").await;

    let requests = receiver.wait_for(3, SOON).await;
    assert_eq!(receiver.count(), 3);
    assert_eq!(receiver.connections(), 1);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].path, "/a?b=c");
    assert_eq!(requests[0].header("x-name"), Some("Value"));
    assert_eq!(requests[0].body, "one");
    assert_eq!(requests[1].body, "two");
    assert!(requests[1].at >= requests[0].at);
    assert!(receiver.url("/x").starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn answers_with_status_headers_and_delay() {
    let (start, delay) = (Instant::now(), Duration::from_millis(150));
    let (mut stream, _receiver) =
        posted(Reply::text(503, "busy").with_header("retry-after", "7").after(delay)).await;
    let answer = read_until(&mut stream, "busy").await;
    assert!(start.elapsed() >= delay);
    assert!(answer.starts_with("HTTP/1.1 503 "));
    assert!(answer.contains("\r\nretry-after: 7\r\n"));
}

#[tokio::test]
async fn hangs() {
    let (mut stream, _receiver) = posted(Reply::Hang).await;
    assert!(timeout(MOMENT, stream.read_u8()).await.is_err());
}

#[tokio::test]
async fn closes_and_resets() {
    let (mut stream, _receiver) = posted(Reply::Close).await;
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);

    let (mut stream, _receiver) = posted(Reply::Reset).await;
    let error = timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn trickles() {
    let pause = Duration::from_millis(20);
    let start = Instant::now();
    let reply = Reply::Trickle { status: 200, pause, body: "slowly".into() };
    let (mut stream, _receiver) = posted(reply).await;
    read_until(&mut stream, "slowly").await;
    assert!(start.elapsed() >= 6 * pause);
}

#[tokio::test]
async fn never_ends() {
    let (mut stream, _receiver) = posted(Reply::Endless { status: 200 }).await;
    let mut taken = (&mut stream).take(10_000_000);
    let n_bytes = timeout(SOON, tokio::io::copy(&mut taken, &mut tokio::io::sink())).await;
    assert_eq!(n_bytes.unwrap().unwrap(), 10_000_000);
}

/// A connection that has sent a request to a receiver that answers it so.
async fn posted(reply: Reply) -> (TcpStream, Receiver) {
    let receiver = Receiver::start().await;
    receiver.answer_with(move |_, _| reply.clone());
    let mut stream = TcpStream::connect(receiver.addr()).await.unwrap();
    post(&mut stream, "/", "{}").await;
    (stream, receiver)
}

async fn post(stream: &mut TcpStream, path: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: here\r\nX-Name: Value\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the connection ended");
        }
    };
    timeout(SOON, reading).await.unwrap();
    String::from_utf8(read).unwrap()
}
