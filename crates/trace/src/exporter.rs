//! The export of spans to a collector, over OTLP/HTTP in JSON.
//!
//! No work ever waits for a collector. Ended spans wait in a bounded queue. A separate thread sends
//! them in batches. A span that does not fit into the queue is dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_core::spans::TARGET;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider,
};
use thiserror::Error;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::sampling::{ReceivedOnly, Sampling};

/// The most spans that wait to be sent: some megabytes.
const QUEUE: usize = 8192;

/// The most spans in a request.
const BATCH: usize = 512;

/// How long spans wait for further ones, so that a request carries many.
const DELAY: Duration = Duration::from_millis(500);

/// The configuration of the export.
#[derive(Debug)]
pub struct Config {
    /// The full URL of the collector, such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// Further headers of each request, such as those that authenticate it.
    pub headers: HashMap<String, String>,
    pub sampling: Sampling,
    /// The name of the service that the spans belong to.
    pub service: String,
    /// The service's version.
    pub version: &'static str,
}

/// Sends requests to the collector.
pub trait Transport: std::fmt::Debug + Send + Sync + 'static {
    /// Sends a request and blocks until its answer or failure. It must have a time-out, because
    /// other spans wait meanwhile.
    ///
    /// # Errors
    ///
    /// There is no answer. The error is the reason in words.
    fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, String>;
}

/// A collector's answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: http::StatusCode,
    /// The value of `retry-after`.
    pub retry_after: Option<http::HeaderValue>,
}

/// The export of spans can't be set up.
#[derive(Debug, Error)]
#[error("failed to set up the export of spans")]
pub struct ExporterError(#[from] ExporterBuildError);

/// The export of a process's spans, and its thread.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts the export. Spans get to it through its [`layer`](Self::layer).
    ///
    /// # Errors
    ///
    /// The configuration is not valid.
    pub fn start(config: Config, transport: impl Transport) -> Result<Self, ExporterError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(config.endpoint)
            .with_headers(config.headers)
            .with_http_client(Client { transport, is_failing: AtomicBool::new(false) })
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let resource = Resource::builder()
            .with_service_name(config.service)
            .with_attributes([
                KeyValue::new("service.namespace", "fanfare"),
                KeyValue::new("service.version", config.version),
                KeyValue::new("process.pid", i64::from(std::process::id())),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(ReceivedOnly::new(config.sampling))
            .with_resource(resource)
            .with_span_processor(BatchSpanProcessor::new(exporter, batches))
            .build();
        Ok(Self { provider })
    }

    /// The layer of a subscriber that passes spans to the export.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer: OpenTelemetryLayer<S, SdkTracer> = tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("fanfare"))
            .with_location(false)
            .with_level(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        layer.with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    }

    /// Sends the remaining spans, for at most `longest`, and stops. Spans that end later are
    /// dropped.
    pub fn finish(self, longest: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(longest) {
            tracing::warn!(%error, "some spans could not be sent before the process ended");
        }
    }
}

/// The exporter's HTTP client. It logs when requests begin to fail and when they succeed again.
#[derive(Debug)]
struct Client<T> {
    transport: T,
    is_failing: AtomicBool,
}

#[async_trait]
impl<T: Transport> HttpClient for Client<T> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        // Blocking is correct here, since this runs on the exporter's own thread.
        let answer = self.transport.post(parts.headers, body);
        self.log(&answer);
        let Answer { status, retry_after } = answer?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        if let Some(value) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        Ok(response)
    }
}

impl<T> Client<T> {
    fn log(&self, answer: &Result<Answer, String>) {
        let error = match answer {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) => Some(format!("the collector answered {}", answer.status)),
            Err(error) => Some(error.clone()),
        };
        let was_failing = self.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            None if was_failing => tracing::info!("spans are sent again"),
            Some(error) if !was_failing => {
                tracing::warn!(error, "spans can't be sent for now; they are dropped");
            }
            _ => {}
        }
    }
}
