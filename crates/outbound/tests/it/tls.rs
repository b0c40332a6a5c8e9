//! Handshakes that go wrong.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanfare_core::answer::Failure;
use fanfare_outbound::{Client, Config};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::{LOOPBACK, client, config, failed, post};

/// A server that shakes hands with one connection as `config` says; its port.
fn tls_server(config: ServerConfig) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        // Reading drives the handshake, and ends with the client's refusal.
        let _ = Stream::new(&mut connection, &mut socket).read(&mut [0; 1024]);
    });
    port
}

fn server_config() -> rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = server_config().with_single_cert(vec![own.cert.into()], key.into()).unwrap();
    let url = format!("https://localhost:{}/", tls_server(config));
    let outcome = post(&client(LOOPBACK), &url).await;
    assert_eq!(outcome, failed(Failure::Tls, "the certificate's issuer is not trusted"));
}

#[tokio::test]
async fn a_server_without_a_certificate_is_a_tls_failure() {
    #[derive(Debug)]
    struct Nothing;
    impl ResolvesServerCert for Nothing {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let port = tls_server(server_config().with_cert_resolver(Arc::new(Nothing)));
    let outcome = post(&client(LOOPBACK), &format!("https://localhost:{port}/")).await;
    assert_eq!(outcome, failed(Failure::Tls, "the server refused the TLS handshake"));
}

/// A plain-text server would wait for the end of a line that never comes; this one answers at
/// once, as servers do that find no HTTP in what they got.
async fn plain_text_server(reply: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 16 * 1024];
        assert!(stream.read(&mut hello).await.unwrap() > 0);
        stream.write_all(reply).await.unwrap();
        stream.shutdown().await.unwrap();
        // Closing with unread input would reset the connection instead.
        while stream.read(&mut hello).await.is_ok_and(|length| length > 0) {}
    });
    url
}

#[tokio::test]
async fn a_plain_text_server_is_a_tls_failure() {
    let url = plain_text_server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let outcome = post(&client(LOOPBACK), &url).await;
    assert_eq!(outcome, failed(Failure::Tls, "the server does not speak TLS"));
}

#[tokio::test]
async fn a_connection_closed_during_the_handshake_is_a_tls_failure() {
    let url = plain_text_server(b"").await;
    let outcome = post(&client(LOOPBACK), &url).await;
    let detail = "the server closed the connection during the TLS handshake";
    assert_eq!(outcome, failed(Failure::Tls, detail));
}

#[tokio::test]
async fn a_handshake_that_never_ends_passes_the_connect_timeout() {
    // The system takes the connection, and nobody ever reads from it.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let connect_timeout = Duration::from_millis(300);
    let client = Client::new(Config { connect_timeout, ..config(LOOPBACK) }).unwrap();
    let outcome = post(&client, &format!("https://{}/", silent.local_addr().unwrap())).await;
    assert_eq!(outcome, failed(Failure::Timeout, "there was no connection within 300ms"));
}
