//! The life of a process: it starts, works until it is told to stop, hands back its work, and ends
//! in time.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a role may take to hand back its work: what supervisors grant at least is 30 s, and
/// the rest is for the process itself to end.
const GRACE: Duration = Duration::from_secs(25);

/// Runs a future to its end. Blocking work that is still about then, such as a name look-up, is
/// not waited for.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Runs a role until SIGTERM or SIGINT, then gives it time to hand back its work.
///
/// # Errors
///
/// The role failed or ended by itself, or it did not hand back its work: within the grace period,
/// or before a second signal.
pub(crate) async fn run_role<F, Fut>(name: &'static str, role: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    // A task of its own, so that a panic is an error here and ends in exit code 1.
    let mut running = tokio::spawn(role(stop.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the {name} starts");
    let signal = tokio::select! {
        ended = &mut running => {
            ended.with_context(|| format!("the {name} crashed; its log says where"))??;
            bail!("the {name} ended although nobody stopped it; its log says why");
        }
        signal = signals.next() => signal,
    };
    tracing::info!("{signal}: the {name} hands back its work and ends");
    stop.cancel();
    let ended = tokio::select! {
        ended = timeout(GRACE, running) => ended,
        signal = signals.next() => {
            bail!("{signal} again: the {name} ends before its work is handed back; nothing is lost, it will be done again");
        }
    };
    let ended = ended.map_err(|_| {
        anyhow!("the {name} did not hand back its work within {GRACE:?}; nothing is lost, it will be done again")
    })?;
    ended.with_context(|| format!("the {name} crashed while it ended; its log says where"))??;
    tracing::info!("the {name} has ended");
    Ok(())
}

/// The signals that ask a process to end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals don't kill the process.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
