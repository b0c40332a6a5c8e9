//! Makes the stores, sessions and clients of the commands from the settings.

use anyhow::Context as _;
use chrono::TimeDelta;
use fanfare_app::{Context, Publisher};
use fanfare_bridge::api::Api;
use fanfare_broker::{Config as BrokerConfig, Queue, Session};
use fanfare_console::oidc::Provider;
use fanfare_core::notice::Limits;
use fanfare_outbound::{Client, Config as OutboundConfig};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config as StoreConfig, PlanMode, Store};

use crate::settings::{Settings, SettingsError};

/// The `User-Agent` of requests to receivers and to the identity provider.
pub(crate) const USER_AGENT: &str = concat!("Fanfare/", env!("CARGO_PKG_VERSION"));

/// The database; connects to nothing yet. `process` becomes part of the `application_name`, by which
/// operators recognise its connections.
pub(crate) fn store(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Custom)
}

/// The database for a process that answers requests of people, who wait for each query.
pub(crate) fn store_for_people(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Interactive)
}

/// The database for background work of a process, with few connections.
pub(crate) fn store_for_background(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, &format!("{process} background"), 2, PlanMode::Custom)
}

/// The database for a role that consumes a queue and repeats the same statements.
pub(crate) fn store_for_queue(settings: &Settings, process: &str) -> anyhow::Result<Store> {
    store_with(settings, process, settings.load.database_connections, PlanMode::Generic)
}

/// The database with a connection of its own, for health checks that must not wait for a role's
/// queries.
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

/// The context of use cases, for a command that needs no broker.
pub(crate) fn context(settings: &Settings, process: &str) -> anyhow::Result<Context> {
    context_with(settings, process, Publisher::none())
}

/// The context of use cases, with a publisher.
pub(crate) fn context_with(
    settings: &Settings,
    process: &str,
    publisher: Publisher,
) -> anyhow::Result<Context> {
    let store = store(settings, process)?;
    let context = Context::new(store, publisher, settings.load.webhooks_per_owner);
    Ok(context.with_mask(settings.mask.clone()))
}

/// The configuration of the broker. `process` becomes part of the connection's name, by which
/// operators recognise it. Routers alone declare the queue of dead events, because they note before
/// that the broker has lost it.
pub(crate) fn broker(settings: &Settings, process: &str) -> anyhow::Result<BrokerConfig> {
    let name = format!("fanfare-{process}");
    let config = BrokerConfig::new(settings.amqp_url()?, &name)?;
    Ok(config
        .with_delivery_queues(settings.load.delivery_queues)
        .without_declaring(Queue::EventsDead))
}

/// Opens a session with the broker, and declares its exchanges and queues.
pub(crate) async fn session(settings: &Settings, process: &str) -> anyhow::Result<Session> {
    Ok(Session::open(&broker(settings, process)?).await?)
}

/// The HTTP client for requests to receivers.
pub(crate) fn outbound(settings: &Settings) -> anyhow::Result<Client> {
    Client::new(OutboundConfig {
        allow: settings.receivers.allow_targets.clone(),
        connect_timeout: settings.sending.connect_timeout,
        timeout: settings.sending.timeout,
        user_agent: USER_AGENT.to_owned(),
        ca_file: settings.receivers.receiver_ca_file.clone(),
        sends_nothing: settings.sending.shadow,
    })
    .context("failed to make the HTTP client")
}

/// The notices that routers send to operators and owners.
pub(crate) fn notices(settings: &Settings) -> anyhow::Result<fanfare_notices::Config> {
    let notices = &settings.notices;
    let time = |time| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
    let webhook = notices.webhook()?.map(|(uri, secret)| {
        outbound(settings).map(|client| fanfare_notices::Webhook { client, uri, secret })
    });
    Ok(fanfare_notices::Config {
        limits: Limits {
            quiet: time(notices.quiet),
            late: time(notices.late),
            pause_after: time(settings.load.pause_failing_after),
            gap: time(settings.directory.gap_wait.max(notices.every)),
        },
        every: notices.every,
        webhook: webhook.transpose()?,
        mail: notices.mail()?,
        operators: notices.to.clone(),
        client: outbound(settings)?,
        domains: notices.domains.clone(),
    })
}

/// The client of the report server's API, with the bridge's account.
pub(crate) fn report_server(settings: &Settings) -> anyhow::Result<Api> {
    let bridge = &settings.bridge;
    let api = Api::new(USER_AGENT, bridge.server()?, bridge.credentials()?);
    api.context("failed to make the HTTP client of the report server")
}

/// The identity provider that people sign in with; connects to nothing yet.
pub(crate) fn provider(settings: &Settings) -> anyhow::Result<Option<Provider>> {
    let config = settings.sign_in.provider()?;
    let provider = config.map(Provider::new).transpose();
    provider.context("failed to make the HTTP client of the identity provider")
}
