//! The operator's own authorities: read at the start, and again when their file changes.

use std::fs;
use std::time::{Duration, Instant};

use fanfare_testkit::wait::pass;

use fanfare_core::answer::{Answer, Failure};
use fanfare_outbound::{Client, Config};

use crate::authority::Authority;
use crate::http2::{Step, serve};
use crate::{LOOPBACK, config, post, response};

fn trusting(file: std::path::PathBuf) -> Client {
    Client::new(Config { ca_file: Some(file), ..config(LOOPBACK) }).unwrap()
}

#[tokio::test]
async fn an_authority_in_the_file_is_trusted_and_a_new_one_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let server = serve(second.by_intermediate(), &["http/1.1"], [Step::Http1]).await;
    let file = first.folder().join("trusted.pem");
    fs::copy(first.file(), &file).unwrap();
    let client = trusting(file.clone());
    let outcome = post(&client, &server.url()).await;
    assert!(matches!(outcome, Answer::Failed { failure: Failure::Tls, .. }), "{outcome:?}");

    // An unusable file changes nothing; a later valid one is used.
    fs::write(&file, "no certificate").unwrap();
    let begin = Instant::now();
    let mut written = false;
    while post(&client, &server.url()).await != response(200, "one") {
        assert!(begin.elapsed() < Duration::from_mins(1), "the new authority is not trusted");
        if !written && begin.elapsed() > Duration::from_secs(7) {
            fs::copy(second.file(), &file).unwrap();
            written = true;
        }
        pass(Duration::from_millis(200)).await;
    }
    assert!(written, "nothing was trusted that was not written");
}

#[tokio::test]
async fn a_broken_file_keeps_the_former_authorities() {
    let authority = Authority::new();
    let server = serve(authority.localhost(), &["http/1.1"], [Step::Http1]).await;
    let client = trusting(authority.file());
    assert_eq!(post(&client, &server.url()).await, response(200, "one"));
    fs::write(authority.file(), "no certificate").unwrap();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(7) {
        assert_eq!(post(&client, &server.url()).await, response(200, "one"));
        pass(Duration::from_millis(500)).await;
    }
}

#[test]
fn an_unusable_file_at_the_start_is_named_in_the_error() {
    let authority = Authority::new();
    let empty = authority.folder().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (file, said) in [
        (authority.folder().join("missing.pem"), "failed to read"),
        (empty, "empty.pem holds no certificate"),
    ] {
        let error = Client::new(Config { ca_file: Some(file), ..config(&[]) }).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(said), "{cause}");
    }
}
