//! The request line: the bytes of a URL are sent as they were registered.

use bytes::Bytes;
use fanfare_core::webhook::WebhookUri;

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client};

#[tokio::test]
async fn the_request_line_has_the_registered_bytes() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", "e"))]).await;
    let client = client(LOOPBACK);
    for (written, sent) in [
        ("/a/../b/./c//d", "/a/../b/./c//d"),
        ("/%7euser/it's?q='x'", "/%7euser/it's?q='x'"),
        ("/?", "/?"),
        ("?a=b", "/?a=b"),
        ("/a|b?c|d#part", "/a%7Cb?c%7Cd"),
        ("/é?a=%", "/%C3%A9?a=%25"),
    ] {
        let uri: WebhookUri = server.url(written).parse().unwrap();
        client.post(&uri, &[], Bytes::from_static(b"{}")).await;
        let last = server.requests().pop().unwrap();
        assert_eq!(
            last.lines().next(),
            Some(format!("POST {sent} HTTP/1.1").as_str()),
            "{written}"
        );
    }
    let uri: WebhookUri = server.url("/it's?").parse().unwrap();
    client.verify(&uri, &[], "e").await.unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!(last.lines().next(), Some("GET /it's?echo=e HTTP/1.1"));
}

#[tokio::test]
async fn a_user_in_the_url_is_sent_as_basic_authorization() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "", ""))]).await;
    let client = client(LOOPBACK);
    let text = format!("http://user:p%40ss@127.0.0.1:{}/", server.port);
    let uri: WebhookUri = text.parse().unwrap();
    client.post(&uri, &[], Bytes::new()).await;
    let own = [("Authorization".to_owned(), "Bearer x".to_owned())];
    client.post(&uri, &own, Bytes::new()).await;
    let lines = |request: &String| {
        let lines = request.lines().filter(|line| line.starts_with("authorization"));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let sent: Vec<_> = server.requests().iter().flat_map(lines).collect();
    assert_eq!(sent, ["authorization: Basic dXNlcjpwQHNz", "authorization: Bearer x"]);
}
