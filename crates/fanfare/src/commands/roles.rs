//! The processes that do the work: each gets its configuration and runs until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fanfare_app::clock;
use fanfare_broker::State;

use crate::observe::Observer;
use crate::parts;
use crate::settings::Settings;
use crate::spans;

/// How often the ledger is asked what got lost.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// Runs a router: events in, plans and jobs out.
pub(crate) async fn router(settings: &Settings) -> anyhow::Result<()> {
    let mut observer = Observer::new(settings, "router").await?;
    let broker = parts::broker(settings, "router")?;
    let standing = observer.broker(broker.queue_health());
    let (tracer, export) = spans::start(settings, "router")?;
    let store = parts::store_for_queue(settings, "router")?;
    let clock = store.clock().clone();
    let config = fanfare_router::Config {
        broker,
        store,
        prefetch: settings.prefetch,
        hold: settings.directory.hold,
        gap_wait: settings.directory.gap_wait,
        pass_gaps: settings.directory.pass_gaps,
        history: settings.directory.history,
        reconcile_every: RECONCILE_EVERY,
        mask: settings.mask.clone(),
        metrics: observer.router(),
        sample_every: observer.sample_every(),
        tracer,
        clock: Arc::new(move || clock.now()),
    };
    let run = |stop| fanfare_router::run(config, stop, telling(standing));
    observer.beside(settings, run).await?;
    export.finish().await;
    Ok(())
}

/// Runs a worker: jobs in, POSTs out, attempts recorded.
pub(crate) async fn worker(settings: &Settings) -> anyhow::Result<()> {
    let mut observer = Observer::new(settings, "worker").await?;
    let broker = parts::broker(settings, "worker")?;
    let standing = observer.broker(broker.queue_health());
    let (tracer, export) = spans::start(settings, "worker")?;
    let config = fanfare_worker::Config {
        broker,
        store: parts::store_for_queue(settings, "worker")?,
        client: parts::outbound(settings)?,
        policy: settings.retry,
        timeout: settings.timeout,
        concurrency: settings.concurrency,
        per_webhook: settings.webhook_concurrency,
        pause_after: settings.pause_after,
        prefetch: settings.prefetch,
        metrics: observer.worker(),
        tracer,
    };
    let run = |stop| fanfare_worker::run(config, stop, telling(standing));
    observer.beside(settings, run).await?;
    export.finish().await;
    Ok(())
}

/// Runs a console: the API at which users register their webhooks.
pub(crate) async fn console(settings: &Settings) -> anyhow::Result<()> {
    let observer = Observer::new(settings, "console").await?;
    let config = fanfare_console::Config {
        store: parts::store_for_people(settings, "console")?,
        background: parts::store_for_upkeep(settings, "console")?,
        broker: parts::broker(settings, "console")?,
        client: parts::outbound(settings)?,
        // The ladder may lengthen the last wait by an eighth; an hour is for clocks and attempts.
        longest_chain: settings.retry.deadline * 9 / 8 + Duration::from_hours(1),
        // A minute is for the row's way into the database, and for clocks that differ.
        settled: settings.timeout + Duration::from_mins(1),
        clock: clock::now,
        webhooks_per_owner: settings.webhooks_per_owner,
        local_accounts: settings.sign_in.local_accounts,
        url: settings.sign_in.console_url.clone(),
        provider: parts::provider(settings)?,
    };
    let wanted = settings.console_listen;
    let listener = fanfare_console::listen(wanted).with_context(|| {
        format!(
            "failed to listen on {wanted}; set FANFARE_CONSOLE_LISTEN to an address of this \
                 machine and a port that is free"
        )
    })?;
    observer.beside(settings, |stop| fanfare_console::run(config, listener, stop)).await
}

/// Tells each state with the broker in the log, and to `standing`.
fn telling(standing: impl Fn(State)) -> impl Fn(State) {
    move |state| {
        tell(state);
        standing(state);
    }
}

/// Logs how it stands with the broker; why it went away is told where it was noticed.
fn tell(state: State) {
    match state {
        State::Connecting => tracing::debug!("connecting to the broker"),
        State::Connected => tracing::info!("connected to the broker"),
        State::Blocked => {
            tracing::warn!("the broker takes no messages: it is short of memory or disk");
        }
        State::Down => tracing::debug!("not connected to the broker"),
    }
}
