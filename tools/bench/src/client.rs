//! The bare client, which shows the limit of this machine: the HTTP client that Fanfare uses,
//! signing and posting, without broker, database or decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use fanfare_core::ids::DeliveryId;
use fanfare_core::notification::render;
use fanfare_core::request::UnsignedRequest;
use fanfare_core::webhook::{Headers, Properties, Secret};
use reqwest::{Client, redirect, retry};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::event::{self, Stamp};
use crate::number;

/// POSTs to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) url: String,
    /// The secret that signs.
    pub(crate) secret: String,
    /// The number of the first POST.
    pub(crate) from: u64,
    pub(crate) count: u64,
    /// The size of each event's data, in bytes.
    pub(crate) size: usize,
    /// The most concurrent POSTs.
    pub(crate) side_by_side: usize,
    /// The most unused connections to a host.
    pub(crate) idle: usize,
}

/// Runs until its standard input ends, on as many threads as a Fanfare process.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    crate::wire::serve(|command: Command| runtime.block_on(post_all(command)))
}

async fn post_all(command: Command) -> Result<()> {
    let client = client(command.idle).context("building the HTTP client")?;
    let secret: Secret = command.secret.parse().context("the secret")?;
    let shared = Arc::new((client, secret, AtomicU64::new(0), command));
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..shared.3.side_by_side {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let (client, secret, next, command) = &*shared;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= command.count {
                    return Ok(());
                }
                post(client, secret, command, command.from + index).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of the client panicked")??;
    }
    Ok(())
}

/// Builds a client like that of `crates/outbound`, without the target policy.
fn client(idle: usize) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("Fanfare/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .retry(retry::never())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(15))
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(idle)
        // No https is used, so the trust roots of the system are not needed.
        .tls_certs_only([])
        .build()
}

async fn post(client: &Client, secret: &Secret, command: &Command, number: u64) -> Result<()> {
    let now = number::now();
    let id = DeliveryId(Uuid::from_u128(u128::from(number)));
    let notification = event::notification(Stamp { number, sent: now }, command.size);
    let body = render(id, 1, &Properties::default(), [notification.as_str()]);
    let signed = UnsignedRequest {
        own: &Headers::default(),
        secrets: std::slice::from_ref(secret),
        id,
        at: DateTime::from_timestamp_nanos(i64::try_from(now).unwrap_or(i64::MAX)),
        traceparent: None,
        body: body.as_bytes(),
    };
    let headers = signed.sign();
    let request = client.post(&command.url).body(body);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let response = request.send().await.context("a POST")?;
    ensure!(response.status().is_success(), "the sink answered {}", response.status());
    response.bytes().await.context("reading an answer")?;
    Ok(())
}
