//! Handshakes that fail.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanfare_core::answer::{Answer, Failure};
use fanfare_outbound::{Client, Config};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

use crate::authority::{Authority, Chain, secured};
use crate::{LOOPBACK, client, config, failed, post};

/// Starts a server that makes one handshake with this configuration; returns its port.
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
    let detail = "the certificate is signed by itself: the server needs one of a trusted authority";
    assert_eq!(outcome, failed(Failure::Tls, detail));
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

/// A server without TLS that answers at once, as servers do if a request is not HTTP. Otherwise it
/// would wait for the end of a line that never arrives.
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
    let detail =
        "the server does not speak TLS: the port may be one for http, or for something else";
    assert_eq!(outcome, failed(Failure::Tls, detail));
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
    // The system accepts the connection, and no process reads from it.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let connect_timeout = Duration::from_millis(300);
    let client = Client::new(Config { connect_timeout, ..config(LOOPBACK) }).unwrap();
    let outcome = post(&client, &format!("https://{}/", silent.local_addr().unwrap())).await;
    assert_eq!(outcome, failed(Failure::Timeout, "there was no connection within 300ms"));
}

/// The answer of a client that trusts the authority, for a server with this configuration.
async fn refusal(authority: &Authority, config: ServerConfig) -> Answer {
    let ca_file = Some(authority.file());
    let client = Client::new(Config { ca_file, ..crate::config(LOOPBACK) }).unwrap();
    post(&client, &format!("https://localhost:{}/", tls_server(config))).await
}

async fn check_certificate(make: impl FnOnce(&Authority) -> Chain, detail: &str) {
    let authority = Authority::new();
    let config = secured(make(&authority), &[]);
    assert_eq!(refusal(&authority, config).await, failed(Failure::Tls, detail));
}

fn localhost() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned()]).unwrap()
}

#[tokio::test]
async fn the_detail_says_what_is_wrong_with_a_certificate() {
    check_certificate(
        |authority| {
            let (mut chain, key) = authority.by_intermediate();
            chain.truncate(1);
            (chain, key)
        },
        "the certificate's issuer is not trusted, and the server sends no intermediate \
         certificate: it must send those that lead to a trusted authority",
    )
    .await;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let others = names(&["a.example", "*.b.example"]);
    check_certificate(
        |authority| authority.sign(CertificateParams::new(others).unwrap()),
        "the certificate is for another name: it is for a.example, *.b.example",
    )
    .await;
    let many = names(&["a.test", "b.test", "c.test", "d.test", "e.test", "f.test", "g.test"]);
    check_certificate(
        |authority| authority.sign(CertificateParams::new(many).unwrap()),
        "the certificate is for another name: it is for a.test, b.test, c.test, d.test, e.test \
         and others",
    )
    .await;
    let mut past = localhost();
    past.not_after = date_time_ymd(2021, 2, 3);
    check_certificate(
        |authority| authority.sign(past),
        "the certificate has expired: it was valid until Wed, 03 Feb 2021 00:00:00 GMT",
    )
    .await;
    let mut future = localhost();
    future.not_before = date_time_ymd(2099, 1, 2);
    check_certificate(
        |authority| authority.sign(future),
        "the certificate is not valid yet: it will be from Fri, 02 Jan 2099 00:00:00 GMT",
    )
    .await;
}

/// A server that wants a client certificate, for each version of TLS.
#[tokio::test]
async fn the_detail_says_that_a_client_certificate_is_required() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let authority = Authority::new();
        let mut roots = RootCertStore::empty();
        let (chain, key) = authority.localhost();
        roots.add(chain[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let detail = "the server wants a client certificate, and none is sent";
        assert_eq!(refusal(&authority, config).await, failed(Failure::Tls, detail));
    }
}

#[tokio::test]
async fn the_detail_says_that_no_version_or_cipher_is_in_common() {
    // The alerts of servers that speak older versions, or with other ciphers, only.
    let (version, cipher): (&[u8], &[u8]) =
        (&[0x15, 3, 1, 0, 2, 2, 70], &[0x15, 3, 3, 0, 2, 2, 40]);
    for (alert, detail) in [
        (
            version,
            "the server speaks no TLS version that is safe to use: it must speak TLS 1.2 or 1.3",
        ),
        (
            cipher,
            "the server refused the TLS handshake: it has no cipher in common with us, or wants a \
             client certificate",
        ),
    ] {
        let url = plain_text_server(alert).await;
        assert_eq!(post(&client(LOOPBACK), &url).await, failed(Failure::Tls, detail));
    }
}

#[tokio::test]
async fn the_detail_says_that_a_port_requires_tls() {
    let url = plain_text_server(&[0x15, 3, 1, 0, 2, 2, 10]).await.replace("https", "http");
    let detail = "the server speaks TLS on this port: the URL must begin with https";
    assert_eq!(post(&client(LOOPBACK), &url).await, failed(Failure::Protocol, detail));
}
