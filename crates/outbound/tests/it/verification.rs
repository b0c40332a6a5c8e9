//! Verification of an address by its echo.

use fanfare_outbound::VerifyError;

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client, header};

const ECHO: &str = "0f8fad5bd9cb469fa16570867728950e";

async fn verify(server: &Server, rest: &str) -> Result<(), VerifyError> {
    client(LOOPBACK).verify(&server.url(rest).parse::<url::Url>().unwrap(), &[], ECHO).await
}

async fn verify_answer(reply: Reply) -> Result<(), VerifyError> {
    verify(&Server::start([reply]).await, "/").await
}

fn failed(reason: &str) -> VerifyError {
    VerifyError::Failed { reason: reason.to_owned() }
}

#[tokio::test]
async fn the_echo_is_added_to_the_query() {
    for (rest, target) in [
        ("/hook", format!("/hook?echo={ECHO}")),
        ("/hook?", format!("/hook?echo={ECHO}")),
        ("/hook?code=a%20b&x=1", format!("/hook?code=a%20b&x=1&echo={ECHO}")),
    ] {
        let server = Server::start([Reply::Bytes(answer("200 OK", "", ECHO))]).await;
        assert_eq!(verify(&server, rest).await, Ok(()));
        let requests = server.requests();
        let [request] = requests.as_slice() else { panic!("one request, not {requests:?}") };
        assert_eq!(request.lines().next(), Some(format!("GET {target} HTTP/1.1").as_str()));
    }
}

#[tokio::test]
async fn the_webhooks_own_headers_are_sent() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", ECHO))]).await;
    let url: url::Url = server.url("/").parse().unwrap();
    let headers = [header("x-api-key", "k")];
    assert_eq!(client(LOOPBACK).verify(&url, &headers, ECHO).await, Ok(()));
    assert!(server.requests().iter().all(|request| request.contains("\r\nx-api-key: k\r\n")));
}

#[tokio::test]
async fn any_success_status_passes() {
    assert_eq!(verify_answer(Reply::Bytes(answer("202 Accepted", "", ECHO))).await, Ok(()));
}

#[tokio::test]
async fn another_body_is_refused() {
    let long = format!("{ECHO}{}", "x".repeat(20_000));
    for body in ["", "hello", &format!("\"{ECHO}\""), &format!("{ECHO}\n"), &long] {
        let outcome = verify_answer(Reply::Bytes(answer("200 OK", "", body))).await;
        assert_eq!(outcome, Err(VerifyError::NoEcho), "{body:.40}");
    }
}

#[tokio::test]
async fn an_endless_body_is_refused() {
    let head = format!("HTTP/1.1 200 OK\r\n\r\n{ECHO}");
    assert_eq!(verify_answer(Reply::Endless(head.into())).await, Err(VerifyError::NoEcho));
}

#[tokio::test]
async fn other_statuses_and_redirects_fail() {
    let elsewhere = Server::start([Reply::Bytes(answer("200 OK", "", ECHO))]).await;
    let location = format!("location: {}\r\n", elsewhere.url("/"));
    for (status, reason) in [
        ("404 Not Found", "the endpoint answered 404 Not Found"),
        ("302 Found", "the endpoint answered 302 Found"),
        ("500 Whatever", "the endpoint answered 500 Internal Server Error"),
    ] {
        let outcome = verify_answer(Reply::Bytes(answer(status, &location, ECHO))).await;
        assert_eq!(outcome, Err(failed(reason)));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn failures_have_a_reason_in_plain_words() {
    let broken = verify_answer(Reply::Close(Vec::new())).await;
    assert_eq!(broken, Err(failed("the connection was closed before the answer came")));

    let url: url::Url = "http://10.1.2.3/".parse().unwrap();
    let blocked = client(&[]).verify(&url, &[], ECHO).await;
    assert_eq!(blocked, Err(failed("10.1.2.3 is a private address")));
}

#[tokio::test]
async fn a_name_with_internal_addresses_fails_like_one_that_does_not_exist() {
    let hidden = "the name could not be resolved to an address that may be reached";
    for url in ["http://localhost/", "http://nothing.invalid/"] {
        let outcome = client(&[]).verify(&url.parse::<url::Url>().unwrap(), &[], ECHO).await;
        assert_eq!(outcome, Err(failed(hidden)), "{url}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_fails() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{ECHO}");
    let outcome = verify_answer(Reply::Close(head.into())).await;
    assert!(matches!(outcome, Err(VerifyError::Failed { .. })), "{outcome:?}");
}
