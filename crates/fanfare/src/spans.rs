//! Sends spans to the collector that the settings name. Without a collector nothing here runs.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use fanfare_outbound::trusted::Client;
use fanfare_trace::exporter::{Answer, Config, Exporter, Transport};
use http::{HeaderMap, StatusCode};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::settings::Settings;
use crate::wiring::USER_AGENT;

/// How long a process that ends may take to send its last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the export of a role's spans; `None` if the settings name no collector.
///
/// # Errors
///
/// The HTTP client can't be made, or the address can't be used.
pub(crate) fn start(settings: &Settings, role: &str) -> anyhow::Result<Option<Exporter>> {
    let traces = &settings.telemetry.traces;
    let Some(endpoint) = traces.otlp_endpoint.clone() else { return Ok(None) };
    let config = Config {
        endpoint: endpoint.to_string(),
        headers: traces.otel_exporter_otlp_headers.iter().cloned().collect(),
        sampling: traces.sampling().context("the sampler of OTEL_TRACES_SAMPLER is unknown")?,
        service: format!("fanfare-{role}"),
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(Some(Exporter::start(config, Collector::new(endpoint)?)?))
}

/// Sends the last spans before the process ends.
pub(crate) fn finish(exporter: Option<Exporter>) {
    if let Some(exporter) = exporter {
        exporter.finish(FLUSH_TIMEOUT);
    }
}

/// Posts spans to the collector. It has its own runtime, on the exporter's thread, so that a slow
/// collector does not slow deliveries.
#[derive(Debug)]
struct Collector {
    client: Client,
    endpoint: Url,
    runtime: Runtime,
}

impl Collector {
    fn new(endpoint: Url) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("failed to start the runtime that sends spans")?;
        Ok(Self { client: Client::new(USER_AGENT)?, endpoint, runtime })
    }
}

impl Transport for Collector {
    fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, String> {
        let answer = self.runtime.block_on(self.client.post(&self.endpoint, headers, body));
        let answer = answer.map_err(|error| error.to_string())?;
        let status = StatusCode::from_u16(answer.status).map_err(|error| error.to_string())?;
        Ok(Answer { status, retry_after: answer.retry_after })
    }
}
