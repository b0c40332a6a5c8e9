//! Answers of real receivers: the status line decides, whatever follows it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::answer::Answer;
use fanfare_outbound::{Client, Config};
use url::Url;

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client, config, post, response};

/// The outcome of an answer, and the number of connections for it and a further request.
async fn outcome(bytes: impl Into<Vec<u8>>) -> (Answer, usize) {
    let next = Reply::Bytes(answer("200 OK", "", "next"));
    let server = Server::start([Reply::Bytes(bytes.into()), next]).await;
    let client = client(LOOPBACK);
    let outcome = post(&client, &server.url("/")).await;
    assert_eq!(post(&client, &server.url("/")).await, response(200, "next"));
    assert_eq!(server.requests().len(), 2, "{outcome:?}");
    (outcome, server.connections())
}

#[tokio::test]
async fn a_status_counts_even_if_its_headers_are_malformed() {
    for headers in [
        "Server : x\r\n",
        "x: y\r\n  folded\r\n\tmore\r\n",
        " folded: at once\r\n",
        "a line without a colon\r\n",
        "Set-Cookie: a=\u{1}b\u{7f}\r\n",
        "Set-Cookie: a=\0b\r\n",
        "bad name: y\r\n",
        ": y\r\n",
        "\u{e9}: y\r\n",
        "x: y\n",
        "content-length: 4\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "content-length: many\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        &"x: y\r\n".repeat(150),
        &"x: y\r\n".repeat(2000),
    ] {
        for status in [200, 202, 404, 410] {
            let bytes = format!("HTTP/1.1 {status} Any\r\n{headers}Content-Length: 4\r\n\r\nbody");
            let (outcome, connections) = outcome(bytes).await;
            assert!(
                matches!(outcome, Answer::Response { status: s, .. } if s == status),
                "{headers:?} {outcome:?}"
            );
            assert_eq!(connections, 2, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_head_of_a_mebibyte_counts() {
    for headers in [
        format!("x: {}\r\n", "y".repeat(1024 * 1024)),
        format!("x: {}\r\n", "y".repeat(1024)).repeat(1024),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
        let (outcome, connections) = outcome(bytes).await;
        assert!(matches!(outcome, Answer::Response { status: 200, .. }), "{outcome:?}");
        assert_eq!(connections, 2);
    }
}

#[tokio::test]
async fn every_form_of_a_status_line_counts() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK", "HTTP/1.1 200 \u{e9}t\u{e9}"] {
        let (outcome, _) = outcome(format!("{line}\r\ncontent-length: 4\r\n\r\nbody")).await;
        assert_eq!(outcome, response(200, "body"), "{line:?}");
    }
    let obsolete = b"HTTP/1.1 200 caf\xe9\r\nx: caf\xe9\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(outcome(obsolete).await, (response(200, ""), 1));
    let bare = "HTTP/1.1 200 OK\ncontent-length: 4\n\nbody";
    assert_eq!(outcome(bare).await, (response(200, "body"), 2));
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let regular = format!("{interim}HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(outcome(regular).await, (response(202, "body"), 1));
    let many = "x: y\r\n".repeat(150);
    let (outcome, _) =
        outcome(format!("{interim}HTTP/1.1 404 No\r\n{many}content-length: 0\r\n\r\n")).await;
    assert!(matches!(outcome, Answer::Response { status: 404, .. }), "{outcome:?}");
}

#[tokio::test]
async fn retry_after_is_read_among_bad_headers() {
    for headers in [
        "Retry-After: 7\r\nbad\r\n",
        "x : y\r\nretry-after : 7\r\n",
        &format!("{}Retry-After: 7\r\n", "x: y\r\n".repeat(200)),
    ] {
        for status in [429, 503] {
            let bytes = format!("HTTP/1.1 {status} Slow\r\n{headers}content-length: 4\r\n\r\nbody");
            let (outcome, _) = outcome(bytes).await;
            let retry_after = Some("7".to_owned());
            assert_eq!(
                outcome,
                Answer::Response { status, retry_after, exhausted: None, body: "body".to_owned() }
            );
        }
    }
}

#[tokio::test]
async fn a_status_counts_even_if_the_connection_breaks_after_it() {
    for (bytes, body) in [
        ("HTTP/1.1 200 OK\r\n", ""),
        ("HTTP/1.1 200 OK\r\nx-ha", ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "half"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", "half"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf", "half"),
    ] {
        for reply in [Reply::Close(bytes.into()), Reply::Reset(bytes.into())] {
            let reset = matches!(reply, Reply::Reset(_));
            let server = Server::start([reply]).await;
            let outcome = post(&client(LOOPBACK), &server.url("/")).await;
            if reset {
                assert!(
                    matches!(outcome, Answer::Response { status: 200, .. }),
                    "{bytes:?} {outcome:?}"
                );
            } else {
                assert_eq!(outcome, response(200, body), "{bytes:?}");
            }
            assert_eq!(server.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_head_that_trickles_counts_and_is_not_awaited_for_long() {
    let head = b"HTTP/1.1 200 OK\r\nx-slow: ".to_vec();
    let server = Server::start([Reply::Trickle(head.clone())]).await;
    let begin = Instant::now();
    let outcome = post(&client(LOOPBACK), &server.url("/")).await;
    assert_eq!(outcome, response(200, ""));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());

    let server = Server::start([Reply::Trickle(head)]).await;
    let impatient = Config { timeout: Duration::from_millis(500), ..config(LOOPBACK) };
    let outcome = post(&Client::new(impatient).unwrap(), &server.url("/")).await;
    assert_eq!(outcome, response(200, ""));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_recorded() {
    for reset in [false, true] {
        let server = Server::start([Reply::Early(answer("413 Too Large", "", "no"), reset)]).await;
        let url: Url = server.url("/").parse().unwrap();
        let body = Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
        let outcome = client(LOOPBACK).post(&url, &[], body).await;
        assert_eq!(outcome, response(413, "no"), "reset: {reset}");
        assert_eq!(server.connections(), 1);
    }
}
