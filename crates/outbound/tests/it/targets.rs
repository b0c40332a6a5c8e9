//! The addresses that the client connects to or not.

use fanfare_core::answer::{Answer, Failure};

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client, failed, post, response};

/// Posts to `host` at the port of a server on 127.0.0.1, and says how many connections it saw.
async fn post_to(allow: &[&str], host: &str) -> (Answer, usize) {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", "reached"))]).await;
    let outcome = post(&client(allow), &format!("http://{host}:{}/", server.port)).await;
    (outcome, server.connections())
}

#[tokio::test]
async fn literal_addresses_are_blocked_in_every_spelling() {
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "127.0.0.%31",
        "１２７.0.0.1",
        "user:secret@127.0.0.1",
    ] {
        let (outcome, connections) = post_to(&[], host).await;
        let expect = failed(Failure::BlockedTarget, "127.0.0.1 is a loopback address");
        assert_eq!((outcome, connections), (expect, 0), "{host}");
    }
}

#[tokio::test]
async fn ipv6_literals_are_blocked_by_what_they_stand_for() {
    for (host, detail) in [
        ("[::1]", "::1 is a loopback address"),
        ("[::]", ":: is the unspecified address"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1 is a loopback address"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1 is a loopback address"),
        ("[64:ff9b::7f00:1]", "64:ff9b::7f00:1 is a loopback address"),
        ("[fe80::1]", "fe80::1 is a link-local address"),
        ("0", "0.0.0.0 is an address of this network only"),
        ("169.254.169.254", "169.254.169.254 is a link-local address"),
    ] {
        let (outcome, connections) = post_to(&[], host).await;
        assert_eq!((outcome, connections), (failed(Failure::BlockedTarget, detail), 0), "{host}");
    }
}

#[tokio::test]
async fn a_name_is_blocked_by_its_addresses() {
    for host in ["localhost", "LOCALHOST"] {
        let (outcome, connections) = post_to(&[], host).await;
        let Answer::Failed { failure, detail } = outcome else { panic!("{outcome:?}") };
        assert_eq!((failure, connections), (Failure::BlockedTarget, 0), "{host}");
        assert!(detail.ends_with("resolves to a loopback address"), "{detail}");
    }
}

#[tokio::test]
async fn addresses_that_the_operator_allows_are_reached() {
    for host in ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        assert_eq!(post_to(LOOPBACK, host).await, (response(200, "reached"), 1), "{host}");
    }
    let (outcome, connections) = post_to(&["10.0.0.0/8"], "127.0.0.1").await;
    assert!(matches!(outcome, Answer::Failed { failure: Failure::BlockedTarget, .. }));
    assert_eq!(connections, 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_failure() {
    let outcome = post(&client(LOOPBACK), "http://nothing.invalid/").await;
    let detail = "the name nothing.invalid could not be resolved";
    assert_eq!(outcome, failed(Failure::Dns, detail));
}

#[tokio::test]
async fn only_http_urls_are_sent() {
    for (url, detail) in [
        ("ftp://127.0.0.1/", "the URL is neither http nor https"),
        ("file:///etc/passwd", "the URL is neither http nor https"),
        ("gopher://localhost/", "the URL is neither http nor https"),
    ] {
        assert_eq!(post(&client(LOOPBACK), url).await, failed(Failure::Protocol, detail));
    }
}
