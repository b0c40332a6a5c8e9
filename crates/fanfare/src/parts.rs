//! The parts that commands are made of, built from the settings.

use anyhow::Context as _;
use fanfare_app::{Context, Publisher};
use fanfare_broker::{Config as BrokerConfig, Session};
use fanfare_console::oidc::Provider;
use fanfare_outbound::{Client, Config as OutboundConfig};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config as StoreConfig, PlanMode, Store};

use crate::settings::{Settings, SettingsError};

/// How requests to receivers name their sender.
pub(crate) const USER_AGENT: &str = concat!("Fanfare/", env!("CARGO_PKG_VERSION"));

/// The database; connects to nothing yet. `process` is what operators see of it there.
pub(crate) fn store(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Custom)
}

/// The same for people who wait for each answer.
pub(crate) fn store_for_people(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Interactive)
}

/// The same for what a process does beside answering, with few connections.
pub(crate) fn store_for_upkeep(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, &format!("{process} background"), 2, PlanMode::Custom)
}

/// The same for a role that works through a queue.
pub(crate) fn store_for_queue(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Generic)
}

/// The database with a single connection, for looks that must not wait behind a role's work.
pub(crate) fn probe(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, &format!("{process} probe"), 1, PlanMode::Custom)
}

fn store_with(
    settings: &Settings,
    process: &str,
    connections: usize,
    plan_mode: PlanMode,
) -> anyhow::Result<Store> {
    let url = settings.database_url()?.to_owned();
    let keyring = Keyring::new(settings.keys()?).ok_or(SettingsError::NoKeys)?;
    Ok(Store::new(StoreConfig {
        url,
        max_connections: connections,
        plan_mode,
        application_name: format!("fanfare {process}"),
        keyring,
    })?)
}

/// What use cases work with, for a command that needs no broker.
pub(crate) fn context(settings: &Settings, process: &str) -> anyhow::Result<Context> {
    context_with(settings, process, Publisher::none())
}

/// The same with a broker.
pub(crate) fn context_with(
    settings: &Settings,
    process: &str,
    publisher: Publisher,
) -> anyhow::Result<Context> {
    Ok(Context::new(store(settings, process)?, publisher, settings.load.webhooks_per_owner))
}

/// Where the broker is. `process` is what operators see of it there.
pub(crate) fn broker(settings: &Settings, process: &str) -> anyhow::Result<BrokerConfig> {
    let name = format!("fanfare-{process}");
    let config = BrokerConfig::new(settings.amqp_url()?, &name)?;
    Ok(config.with_delivery_queues(settings.load.delivery_queues))
}

/// A session with the broker, in which all exchanges and queues exist.
pub(crate) async fn session(settings: &Settings, process: &str) -> anyhow::Result<Session> {
    Ok(Session::open(&broker(settings, process)?).await?)
}

/// The HTTP client that reaches receivers.
pub(crate) fn outbound(settings: &Settings) -> anyhow::Result<Client> {
    Client::new(OutboundConfig {
        allow: settings.receivers.allow_targets.clone(),
        connect_timeout: settings.sending.connect_timeout,
        timeout: settings.sending.timeout,
        user_agent: USER_AGENT.to_owned(),
        ca_file: settings.receivers.receiver_ca_file.clone(),
    })
    .context("failed to prepare for HTTP requests")
}

/// The identity provider that people sign in with; connects to nothing yet.
pub(crate) fn provider(settings: &Settings) -> anyhow::Result<Option<Provider>> {
    let config = settings.sign_in.provider()?;
    let provider = config.map(Provider::new).transpose();
    provider.context("failed to prepare for HTTP requests to the identity provider")
}
