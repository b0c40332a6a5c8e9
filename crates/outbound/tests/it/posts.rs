//! The request of a POST, and the outcomes of good and bad answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure};
use fanfare_outbound::{Client, Config};
use tokio::net::TcpListener;
use url::Url;

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client, config, failed, header, post, response};

#[tokio::test]
async fn the_request_has_the_given_headers_and_no_others() {
    let server = Server::start([Reply::Bytes(answer("204 No Content", "", ""))]).await;
    let headers = [
        header("content-type", "application/json; charset=utf-8"),
        header("ms-signature", "sha256=AB"),
        header("X-Own", "é"),
    ];
    let url: Url = server.url("/hook?a=b").parse().unwrap();
    let outcome = client(LOOPBACK).post(&url, &headers, Bytes::from_static(b"{}")).await;
    assert_eq!(outcome, response(204, ""));

    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("one request, not {requests:?}") };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /hook?a=b HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: */*",
            "content-length: 2",
            "content-type: application/json; charset=utf-8",
            &format!("host: 127.0.0.1:{}", server.port),
            "ms-signature: sha256=AB",
            "user-agent: Fanfare/test",
            "x-own: é",
        ]
    );
    assert_eq!(body, "{}");
}

#[tokio::test]
async fn a_user_agent_of_the_caller_replaces_the_default() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", ""))]).await;
    let headers = [header("User-Agent", "own")];
    let url: Url = server.url("/").parse().unwrap();
    client(LOOPBACK).post(&url, &headers, Bytes::new()).await;
    let agents: Vec<String> = server
        .requests()
        .iter()
        .flat_map(|request| request.lines())
        .filter(|line| line.starts_with("user-agent"))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(agents, ["user-agent: own"]);
}

#[tokio::test]
async fn an_invalid_header_is_named_and_nothing_is_sent() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", ""))]).await;
    let url: Url = server.url("/").parse().unwrap();
    for name_and_value in [header("x y", "v"), header("x y", "a\r\nb: c")] {
        let outcome = client(LOOPBACK).post(&url, &[name_and_value], Bytes::new()).await;
        assert_eq!(outcome, failed(Failure::Protocol, "the header x y is not valid"));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_answer_has_status_retry_after_and_body() {
    let busy = answer("503 Service Unavailable", "Retry-After: 120\r\n", "a\0b\u{e9}");
    let server = Server::start([Reply::Bytes(busy)]).await;
    assert_eq!(
        post(&client(LOOPBACK), &server.url("/")).await,
        Answer::Response {
            status: 503,
            retry_after: Some("120".to_owned()),
            exhausted: None,
            body: "ab\u{e9}".to_owned(),
        }
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start([Reply::Bytes(answer("200 OK", "", ""))]).await;
    let location = format!("location: {}\r\n", elsewhere.url("/"));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let server = Server::start([Reply::Bytes(answer(status, &location, "there"))]).await;
        let code = status.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(post(&client(LOOPBACK), &server.url("/")).await, response(code, "there"));
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn posts_to_one_host_share_a_connection() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", "thanks"))]).await;
    let client = client(LOOPBACK);
    for _ in 0..3 {
        assert_eq!(post(&client.clone(), &server.url("/")).await, response(200, "thanks"));
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 3));
}

#[tokio::test]
async fn a_trickling_body_does_not_change_the_outcome() {
    let head = b"HTTP/1.1 202 Accepted\r\ncontent-length: 100000\r\n\r\nstart".to_vec();
    let server = Server::start([Reply::Trickle(head)]).await;
    let begin = Instant::now();
    let outcome = post(&client(LOOPBACK), &server.url("/")).await;
    let Answer::Response { status: 202, body, .. } = outcome else { panic!("{outcome:?}") };
    assert!(body.starts_with("startx"), "{body}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_body_is_never_read_past_the_whole_timeout() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    let server = Server::start([Reply::Trickle(head)]).await;
    let client = with_timeout(Duration::from_millis(300));
    let begin = Instant::now();
    let outcome = post(&client, &server.url("/")).await;
    assert!(matches!(outcome, Answer::Response { status: 200, .. }), "{outcome:?}");
    assert!(begin.elapsed() < Duration::from_millis(1900), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"] {
        let server = Server::start([Reply::Endless(head.into())]).await;
        let outcome = post(&client(LOOPBACK), &server.url("/")).await;
        assert_eq!(outcome, response(200, &"x".repeat(16 * 1024)));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_change_the_outcome() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf".to_vec();
    let server = Server::start([Reply::Close(head)]).await;
    assert_eq!(post(&client(LOOPBACK), &server.url("/")).await, response(200, "half"));
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout() {
    let server = Server::start([Reply::Hang]).await;
    let outcome = post(&with_timeout(Duration::from_millis(300)), &server.url("/")).await;
    assert_eq!(outcome, failed(Failure::Timeout, "there was no answer within 300ms"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_trickling_status_line_is_a_timeout() {
    let server = Server::start([Reply::Trickle(b"HTTP/1.1 200 OK".to_vec())]).await;
    let outcome = post(&with_timeout(Duration::from_millis(300)), &server.url("/")).await;
    assert_eq!(outcome, failed(Failure::Timeout, "there was no answer within 300ms"));
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let outcome = post(&client(LOOPBACK), &url).await;
    assert_eq!(outcome, failed(Failure::Connect, "the connection was refused"));
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_a_connect_failure() {
    let closed = "the connection was closed before the answer came";
    for (reply, detail) in [
        (Reply::Close(Vec::new()), closed),
        (Reply::Close(b"HTTP/1.1 200 OK".to_vec()), closed),
        (Reply::Reset(Vec::new()), "the connection was reset"),
    ] {
        let server = Server::start([reply]).await;
        let outcome = post(&client(LOOPBACK), &server.url("/")).await;
        assert_eq!(outcome, failed(Failure::Connect, detail));
        assert_eq!((server.connections(), server.requests().len()), (1, 1), "no second POST");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_an_exchange_gets_one_post_only() {
    for broken in [Reply::Close(Vec::new()), Reply::Reset(Vec::new())] {
        let server = Server::start([Reply::Bytes(answer("200 OK", "", "first")), broken]).await;
        let client = client(LOOPBACK);
        assert_eq!(post(&client, &server.url("/")).await, response(200, "first"));
        let outcome = post(&client, &server.url("/")).await;
        assert!(matches!(outcome, Answer::Failed { failure: Failure::Connect, .. }), "{outcome:?}");
        assert_eq!((server.connections(), server.requests().len()), (1, 2));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_failure() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        "\x05\x03\x01 nothing like HTTP at all\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nnothing more\r\n\r\n",
    ] {
        let server = Server::start([Reply::Bytes(garbage.as_bytes().to_vec())]).await;
        let outcome = post(&client(LOOPBACK), &server.url("/")).await;
        assert_eq!(outcome, failed(Failure::Protocol, "the answer is not valid HTTP"));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_invalid_user_agent_fails_when_the_client_is_built() {
    let error = Client::new(Config { user_agent: "a\nb".to_owned(), ..config(&[]) }).unwrap_err();
    let expect = "building the HTTP client: the user agent is not a valid header";
    assert_eq!(error.to_string(), expect);
}

fn with_timeout(timeout: Duration) -> Client {
    Client::new(Config { timeout, ..config(LOOPBACK) }).unwrap()
}
