//! The proxy: it passes bytes on, and cuts, refuses, freezes, delays, resets and resumes connections.

use std::io;
use std::time::{Duration, Instant};

use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::{amqp::Amqp, shared, wait::eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for a byte to go round; a frozen proxy is given this time to fail.
const MOMENT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn passes_both_ways_and_to_the_end() {
    let proxy = Proxy::start(echo().await);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let sent = vec![7; 100_000];
    let mut received = Vec::new();
    let (mut reading, mut writing) = stream.split();
    let (wrote, read) = tokio::join!(
        async {
            writing.write_all(&sent).await?;
            writing.shutdown().await
        },
        reading.read_to_end(&mut received),
    );
    wrote.unwrap();
    read.unwrap();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn cuts_and_refuses_until_it_resumes() {
    let mut proxy = Proxy::start(echo().await);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round(&mut stream).await.unwrap();

    proxy.cut().await;
    assert!(round(&mut stream).await.is_err());
    let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    proxy.resume();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round(&mut stream).await.unwrap();
}

#[tokio::test]
async fn freezes_and_then_passes_what_it_held_back() {
    let mut proxy = Proxy::start(echo().await);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round(&mut stream).await.unwrap();

    proxy.freeze();
    let mut late = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(timeout(MOMENT, round(&mut stream)).await.is_err());
    assert!(timeout(MOMENT, round(&mut late)).await.is_err());

    proxy.resume();
    for stream in [&mut stream, &mut late] {
        assert_eq!(stream.read_u8().await.unwrap(), b'!', "the byte from before");
        round(stream).await.unwrap();
    }
}

#[tokio::test]
async fn holds_back_what_passes_and_resets_what_is_open() {
    let mut proxy = Proxy::start(echo().await);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.delay(MOMENT);
    let since = Instant::now();
    round(&mut stream).await.unwrap();
    assert!(since.elapsed() >= 2 * MOMENT, "{:?} for both ways", since.elapsed());
    proxy.resume();

    proxy.reset();
    let ended = stream.read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round(&mut stream).await.unwrap();
}

#[tokio::test]
async fn resets_a_connection_that_is_frozen() {
    let proxy = Proxy::start(echo().await);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round(&mut stream).await.unwrap();
    proxy.freeze();
    stream.write_all(b"!").await.unwrap();
    proxy.reset();
    let ended = stream.read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn breaks_a_connection_to_the_broker() {
    let sandbox = Sandbox::new().await;
    let broker = shared::endpoints().broker_addr().unwrap();
    let mut proxy = Proxy::start(broker);
    let url = sandbox.amqp_url.replace(&broker.to_string(), &proxy.addr().to_string());
    let amqp = Amqp::connect(&url).await.unwrap();

    proxy.cut().await;
    eventually("the client sees the cut", Duration::from_secs(5), async || {
        !amqp.connection().status().connected()
    })
    .await;
    assert!(Amqp::connect(&url).await.is_err());
    proxy.resume();
    Amqp::connect(&url).await.unwrap();
}

/// Sends a byte and takes it back.
async fn round(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"!").await?;
    assert_eq!(stream.read_u8().await?, b'!');
    Ok(())
}

async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = stream.split();
                tokio::io::copy(&mut reading, &mut writing).await
            });
        }
    });
    addr
}
