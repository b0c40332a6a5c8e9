//! Clients that send HTTP as no library would.

use fanfare_testkit::wait::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Publishing, SINGLE, accepted};
use crate::world::{SOON, event};

impl Publishing {
    /// The head of a request up to the headers about its body.
    fn head(&self) -> String {
        format!(
            "POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: {SINGLE}\r\n",
            self.token
        )
    }

    async fn connect(&self, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream
    }
}

/// Everything that is answered until the connection ends.
async fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it too.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The statuses of several answers on one connection.
fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[tokio::test]
async fn bodies_may_be_chunked_and_wait_for_continue() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    let event = event().to_string();
    let (one, two) = event.split_at(10);
    let chunks = format!("{:x}\r\n{one}\r\n{:x};x=y\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let chunked = "Connection: close\r\nTransfer-Encoding: chunked\r\n";
    let stream = publishing.connect(&format!("{}{chunked}\r\n{chunks}", publishing.head())).await;
    assert_eq!(statuses(&answer(stream).await), ["202"]);

    let length = format!("Connection: close\r\nContent-Length: {}\r\n", event.len());
    let expect = format!("{}{length}Expect: 100-continue\r\n\r\n", publishing.head());
    let mut stream = publishing.connect(&expect).await;
    let mut continued = [0; 12];
    timeout(SOON, stream.read_exact(&mut continued)).await.unwrap().unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100");
    stream.write_all(event.as_bytes()).await.unwrap();
    assert_eq!(statuses(&answer(stream).await), ["202"]);
    // Without a token the body is not asked for.
    let head =
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = publishing.connect(head).await;
    timeout(SOON, stream.read_exact(&mut continued)).await.unwrap().unwrap();
    assert_eq!(&continued, b"HTTP/1.1 401");
}

#[tokio::test]
async fn lengths_that_are_wrong_publish_nothing() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    let text = event().to_string();
    // Too short a body: the client closes its half of the connection before the end.
    let close = "Connection: close\r\n";
    let longer = format!("{close}Content-Length: {}\r\n\r\n{text}", text.len() + 1);
    let mut stream = publishing.connect(&format!("{}{longer}", publishing.head())).await;
    stream.shutdown().await.unwrap();
    assert!(!answer(stream).await.contains(" 202 "));
    // Too long a body: the rest is another, invalid request.
    let shorter = format!("{close}Content-Length: {}\r\n\r\n{text}", text.len() - 1);
    let stream = publishing.connect(&format!("{}{shorter}", publishing.head())).await;
    assert!(!answer(stream).await.contains(" 202 "));
    for lengths in ["Content-Length: x\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n", ""] {
        let request = format!("{}{close}{lengths}\r\n{text}", publishing.head());
        let stream = publishing.connect(&request).await;
        assert!(!answer(stream).await.contains(" 202 "), "{lengths}");
    }
    // A chunk that never ends is cut at the limit.
    let endless =
        format!("{}{close}Transfer-Encoding: chunked\r\n\r\n40000000\r\n", publishing.head());
    let mut stream = publishing.connect(&endless).await;
    let flood = vec![b'x'; 1 << 20];
    for _ in 0..16 {
        if stream.write_all(&flood).await.is_err() {
            break;
        }
    }
    assert!(!answer(stream).await.contains(" 202 "));
    let amqp = publishing.world.amqp().await;
    assert_eq!(amqp.queue_len("fanfare.events").await.unwrap(), 0);
    assert_eq!(publishing.world.sql("select count(*) from events"), "0");
    accepted(&publishing.event(&event()).await, 1);
}

#[tokio::test]
async fn slow_clients_are_answered_and_do_not_keep_others_out() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    let text = event().to_string();
    let begun =
        format!("{}Content-Length: {}\r\n\r\n{}", publishing.head(), text.len(), &text[..9]);
    let mut slow = Vec::new();
    // More than may be answered at a time.
    for _ in 0..100 {
        slow.push(publishing.connect(&begun).await);
    }
    eventually("an event is accepted among slow clients", SOON, async || {
        let answer = publishing.event(&event()).await;
        if answer.status == 202 { Ok(()) } else { Err(answer) }
    })
    .await;
    for stream in slow {
        let answer = answer(stream).await;
        let status = statuses(&answer);
        assert!(matches!(status.as_slice(), ["408" | "503"]), "{answer}");
    }
}
