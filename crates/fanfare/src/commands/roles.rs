//! The commands that run roles. Each role gets its configuration and runs until a signal stops it.

pub(crate) mod bridge;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fanfare_app::clock;
use fanfare_broker::State;

use crate::lifecycle::Role;
use crate::observe::Observer;
use crate::settings::Settings;
use crate::wiring;

/// How often the router checks the ledger for lost jobs.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// Makes a role from the settings, and adds its metrics and state to the observer.
type Prepare = fn(&Settings, &mut Observer) -> anyhow::Result<Role>;

/// Runs a router: it consumes events, and publishes plans as jobs.
pub(crate) async fn router(settings: &Settings) -> anyhow::Result<()> {
    run(settings, "router", &[prepare_router]).await
}

/// Runs a worker: it consumes jobs, sends POSTs, and records the attempts.
pub(crate) async fn worker(settings: &Settings) -> anyhow::Result<()> {
    run(settings, "worker", &[prepare_worker]).await
}

/// Runs a console: it serves the web pages and the API.
pub(crate) async fn console(settings: &Settings) -> anyhow::Result<()> {
    run(settings, "console", &[prepare_console]).await
}

/// Runs one of each role in this process. Each role has its own connections.
pub(crate) async fn all(settings: &Settings) -> anyhow::Result<()> {
    run(settings, "all", &[prepare_router, prepare_worker, prepare_console]).await
}

async fn run(settings: &Settings, process: &'static str, roles: &[Prepare]) -> anyhow::Result<()> {
    let mut observer = Observer::new(settings, process).await?;
    if settings.sending.shadow {
        tracing::warn!(
            "shadow mode: nothing is sent to receivers; what would be sent is dropped with the \
             reason shadow. To send, set FANFARE_SHADOW=off for all processes"
        );
    }
    let prepared = roles.iter().map(|prepare| prepare(settings, &mut observer));
    let roles = prepared.collect::<anyhow::Result<Vec<Role>>>()?;
    observer.run(settings, roles).await
}

fn prepare_router(settings: &Settings, observer: &mut Observer) -> anyhow::Result<Role> {
    let broker = wiring::broker(settings, "router")?;
    let observe = observer.broker(broker.queue_health());
    let store = wiring::store_for_queue(settings, "router")?;
    observer.database(&store);
    let clock = store.clock().clone();
    let config = fanfare_router::Config {
        broker,
        store,
        prefetch: settings.load.prefetch,
        hold: settings.directory.hold,
        gap_wait: settings.directory.gap_wait,
        pass_gaps: settings.directory.pass_gaps,
        keep: settings.retention.keep(),
        history: settings.directory.history,
        reconcile_every: RECONCILE_EVERY,
        mask: settings.mask.clone(),
        notices: wiring::notices(settings)?,
        metrics: observer.router(),
        sample_every: observer.sample_every(),
        clock: Arc::new(move || clock.now()),
    };
    Ok(Role::new("router", |stop| fanfare_router::run(config, stop, logged(observe))))
}

fn prepare_worker(settings: &Settings, observer: &mut Observer) -> anyhow::Result<Role> {
    let broker = wiring::broker(settings, "worker")?;
    let observe = observer.broker(broker.queue_health());
    let store = wiring::store_for_queue(settings, "worker")?;
    observer.database(&store);
    let config = fanfare_worker::Config {
        broker,
        store,
        client: wiring::outbound(settings)?,
        policy: settings.sending.retry_policy(),
        timeout: settings.sending.timeout,
        concurrency: settings.load.concurrency,
        per_webhook: settings.load.webhook_concurrency,
        shadow: settings.sending.shadow,
        pause_after: settings.load.pause_failing_after,
        prefetch: settings.load.prefetch,
        metrics: observer.worker(),
        open_breakers: observer.open_breakers(),
    };
    Ok(Role::new("worker", |stop| fanfare_worker::run(config, stop, logged(observe))))
}

fn prepare_console(settings: &Settings, observer: &mut Observer) -> anyhow::Result<Role> {
    let background = wiring::store_for_background(settings, "console")?;
    observer.database(&background);
    let config = fanfare_console::Config {
        store: wiring::store_for_people(settings, "console")?,
        background,
        broker: wiring::broker(settings, "console")?,
        client: wiring::outbound(settings)?,
        mask: settings.mask.clone(),
        mail_domains: settings.notices.domains.clone(),
        // The delay ladder may lengthen the last delay by an eighth. The hour is a margin for clocks
        // and attempts.
        longest_chain: settings.sending.delivery_deadline * 9 / 8 + Duration::from_hours(1),
        // The minute is a margin for writing the row, and for clocks that differ.
        settled: settings.sending.timeout + Duration::from_mins(1),
        clock: clock::now,
        webhooks_per_owner: settings.load.webhooks_per_owner,
        storage: settings.retention.storage(),
        local_accounts: settings.sign_in.local_accounts,
        url: settings.sign_in.console_url.clone(),
        proxies: settings.console_proxies.0.clone(),
        provider: wiring::provider(settings)?,
        metrics: observer.console(),
    };
    let wanted = settings.console_listen;
    let listener = fanfare_http::listen(wanted).with_context(|| {
        format!(
            "failed to listen on {wanted}; set FANFARE_CONSOLE_LISTEN to an address of this \
                 machine and a port that is free"
        )
    })?;
    Ok(Role::new("console", |stop| fanfare_console::run(config, listener, stop)))
}

/// Logs each state of the session with the broker, and passes it to `observe`.
fn logged(observe: impl Fn(State)) -> impl Fn(State) {
    move |state| {
        log(state);
        observe(state);
    }
}

/// Logs a state of the session. The broker crate logs the cause of a lost session.
fn log(state: State) {
    match state {
        State::Connecting => tracing::debug!("connecting to the broker"),
        State::Connected => tracing::info!("connected to the broker"),
        State::Blocked => {
            tracing::warn!("the broker takes no messages: it is short of memory or disk");
        }
        State::Down => tracing::debug!("not connected to the broker"),
    }
}
