//! The answers of receivers.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure};
use fanfare_core::target::TargetPolicy;
use fanfare_outbound::fuzzing::{Head, head};
use fanfare_outbound::{Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::Target;

pub(super) const HEAD: Target = Target {
    name: "answer-head",
    about: "the head of an answer that the HTTP library refuses: more bytes never change a status \
            that was read, and headers have no line ends",
    check: answer_head,
};

pub(super) const ANSWER: Target = Target {
    name: "answer",
    about: "any bytes as the answer to a POST, over a real connection: the POST ends, a valid status \
            line decides, and the text can be stored",
    check: answer,
};

fn answer_head(bytes: &[u8]) {
    let whole = head(bytes);
    for end in 0..=bytes.len().min(64) {
        let part = head(bytes.get(..end).unwrap_or_default());
        let of_part = part.as_ref().map(|head| head.status);
        assert!(part.is_none() || of_part == whole.as_ref().map(|head| head.status));
    }
    let Some(Head { status, headers, rest, is_regular }) = whole else { return };
    assert!(status == 101 || (200..=999).contains(&status), "{status}");
    assert!(rest.is_some() || !is_regular);
    assert!(rest.is_none_or(|rest| rest < bytes.len()));
    for (name, value) in headers {
        assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

/// A client and a server that share a thread.
struct Exchange {
    runtime: Runtime,
    client: Client,
    listener: TcpListener,
    to: Url,
}

thread_local! {
    static EXCHANGE: RefCell<Option<Exchange>> = const { RefCell::new(None) };
}

impl Exchange {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.unwrap_or_else(|error| panic!("{error}"));
        let port = listener.local_addr().map_or(0, |address| address.port());
        let to =
            Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap_or_else(|it| panic!("{it}"));
        let config = Config {
            allow: TargetPolicy::new("127.0.0.0/8".parse().into_iter().collect()),
            connect_timeout: Duration::from_secs(20),
            timeout: Duration::from_secs(20),
            user_agent: "fuzzing".to_owned(),
            ca_file: None,
            sends_nothing: false,
        };
        // The client is built within the runtime, whose timers it uses.
        let client = runtime.block_on(async { Client::new(config) });
        Self { client: client.unwrap_or_else(|error| panic!("{error}")), runtime, listener, to }
    }

    /// The result of a POST whose answer is these bytes, with the end of the connection.
    fn post(&self, bytes: &[u8]) -> Answer {
        self.runtime.block_on(async {
            let server = async {
                let Ok((mut stream, _)) = self.listener.accept().await else { return };
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                // The peer's end is awaited, so that closing does not reset the connection.
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
            };
            let post = self.client.post(&self.to, &[], Bytes::from_static(b"{}"));
            tokio::pin!(server);
            tokio::pin!(post);
            tokio::select! {
                answer = &mut post => answer,
                () = &mut server => post.await,
            }
        })
    }
}

fn answer(bytes: &[u8]) {
    let answer =
        EXCHANGE.with_borrow_mut(|exchange| exchange.get_or_insert_with(Exchange::new).post(bytes));
    let expected = head(bytes).map(|head| head.status);
    match answer {
        Answer::Response { status, body, retry_after, .. } => {
            assert!(expected.is_none_or(|expected| expected == status), "{expected:?} {status}");
            assert!(body.len() <= 3 * 16 * 1024 && !body.contains('\0'));
            assert!(retry_after.is_none_or(|text| text.is_ascii()));
        }
        Answer::Failed { failure, detail } => {
            assert_eq!(expected, None, "{detail}");
            assert!(
                matches!(failure, Failure::Protocol | Failure::Connect),
                "{failure:?}: {detail}"
            );
            super::check_sentence(&detail);
        }
    }
}
