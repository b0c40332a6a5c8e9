//! Sending spans to whoever collects them, over OTLP/HTTP in JSON; nothing of it runs when no
//! endpoint is set.
//!
//! The work never waits for it: what can't be sent is dropped, and told once until it works again.

use std::time::Duration;

use fanfare_outbound::trusted::Client;
use fanfare_trace::{Ended, Spans, Tracer, Value, otlp};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::parts::USER_AGENT;
use crate::settings::Settings;

/// The most spans that wait to be sent, some megabytes.
const MOST_WAITING: usize = 8192;

/// The most spans in a request.
const MOST_SENT: usize = 512;

/// How long spans gather, so that a request carries many.
const GATHER: Duration = Duration::from_millis(500);

/// How long a process that ends may take to send what is left.
const LAST: Duration = Duration::from_secs(2);

/// Sends spans until no tracer is left.
pub(crate) struct Export(Option<JoinHandle<()>>);

/// The tracer of a role, and what sends its spans.
pub(crate) fn start(settings: &Settings, role: &'static str) -> anyhow::Result<(Tracer, Export)> {
    let Some(endpoint) = settings.telemetry.otlp_endpoint.clone() else {
        return Ok((Tracer::off(), Export(None)));
    };
    let client = Client::new(USER_AGENT)?;
    let (tracer, spans) = Tracer::new(MOST_WAITING);
    tracing::info!(endpoint = %endpoint.origin().ascii_serialization(), "sending spans");
    let sending = tokio::spawn(send_all(client, endpoint, role, spans));
    Ok((tracer, Export(Some(sending))))
}

impl Export {
    /// Waits a little until what is left is sent; the last tracer must be gone.
    pub(crate) async fn finish(self) {
        if let Some(sending) = self.0 {
            // In vain is no harm: the process ends either way.
            let _ = timeout(LAST, sending).await;
        }
    }
}

async fn send_all(client: Client, endpoint: Url, role: &'static str, mut spans: Spans) {
    let resource = [
        ("service.name", Value::from(format!("fanfare-{role}"))),
        ("service.namespace", Value::from("fanfare")),
        ("service.version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("process.pid", Value::from(i64::from(std::process::id()))),
    ];
    let mut working = true;
    let mut batch: Vec<Ended> = Vec::with_capacity(MOST_SENT);
    while spans.next(&mut batch, MOST_SENT).await > 0 {
        if batch.len() < MOST_SENT {
            sleep(GATHER).await;
            spans.more(&mut batch, MOST_SENT);
        }
        let sent = send(&client, &endpoint, otlp::request(&resource, &batch)).await;
        batch.clear();
        match &sent {
            Ok(()) if !working => tracing::info!("spans are sent again"),
            Err(error) if working => {
                tracing::warn!(error, "spans can't be sent for now; they are dropped");
            }
            _ => {}
        }
        working = sent.is_ok();
        let lost = spans.lost();
        if lost > 0 {
            tracing::debug!(lost, "spans were dropped: they end faster than they are sent");
        }
    }
}

async fn send(client: &Client, endpoint: &Url, body: String) -> Result<(), String> {
    match client.post_json(endpoint, body).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("{endpoint} answered {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}
