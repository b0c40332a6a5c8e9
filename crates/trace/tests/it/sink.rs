//! A collector within the test's process.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use fanfare_core::spans::TARGET;
use fanfare_trace::exporter::{Answer, Config, Exporter, Transport};
use fanfare_trace::sampling::Sampling;
use http::{HeaderMap, StatusCode};
use tracing::{Span, Subscriber, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

/// A collector that keeps its requests. While it is closed, requests hang.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    got: Mutex<Vec<(HeaderMap, String)>>,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Transport for Sink {
    fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, String> {
        let closed = self.0.closed.lock().unwrap();
        drop(self.0.opened.wait_while(closed, |closed| *closed).unwrap());
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.0.got.lock().unwrap().push((headers, body));
        Ok(Answer { status: StatusCode::OK, retry_after: None })
    }
}

impl Sink {
    pub(crate) fn close(&self) {
        *self.0.closed.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.closed.lock().unwrap() = false;
        self.0.opened.notify_all();
    }

    /// The headers of each request.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.0.got.lock().unwrap().iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// All bodies, one after the other.
    pub(crate) fn bodies(&self) -> String {
        self.0.got.lock().unwrap().iter().map(|(_, body)| body.as_str()).collect()
    }

    /// The number of spans that it got. Each span has one trace id, as long as there are no links.
    pub(crate) fn spans(&self) -> usize {
        self.bodies().matches(r#""traceId""#).count()
    }
}

pub(crate) fn exporter(sink: &Sink, sampler: &str) -> Exporter {
    let config = Config {
        endpoint: "http://collector.example/v1/traces".to_owned(),
        headers: [("authorization".to_owned(), "Bearer key".to_owned())].into(),
        sampling: Sampling::parse(sampler, 1.0).unwrap(),
        service: "tester".to_owned(),
        version: "1",
    };
    Exporter::start(config, sink.clone()).unwrap()
}

pub(crate) fn subscriber(exporter: &Exporter) -> impl Subscriber + Send + Sync + use<> {
    tracing_subscriber::registry().with(exporter.layer())
}

/// A span of a message that was received.
pub(crate) fn received() -> Span {
    info_span!(target: TARGET, parent: None, "receive", otel.kind = "consumer")
}

/// A span of work that no received message causes directly.
pub(crate) fn asked() -> Span {
    info_span!(target: TARGET, "ask", otel.kind = "client")
}
