//! The life of a process: it starts, works until it is told to stop, hands back its work, and ends
//! in time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a role may take to hand back its work: what supervisors grant at least is 30 s, and
/// the rest is for the process itself to end.
const GRACE: Duration = Duration::from_secs(25);

/// What becomes of work that was under way when a process ended early.
const UNDONE: &str = "what was under way will be done again, start it anew";

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
/// The role crashed or ended by itself, or it did not hand back its work: within the grace period,
/// or before a second signal.
pub(crate) async fn run_role<F, Fut>(name: &'static str, role: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    // A panic becomes an error here, which ends in the exit code of every failure.
    let mut running = Box::pin(AssertUnwindSafe(role(stop.clone())).catch_unwind());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the {name} starts");
    let signal = tokio::select! {
        ended = &mut running => {
            ended.map_err(|_| crashed(name))?;
            bail!("the {name} ended although nobody stopped it; its log says why");
        }
        signal = signals.next() => signal,
    };
    tracing::info!("{signal}: the {name} hands back its work and ends");
    stop.cancel();
    let ended = tokio::select! {
        ended = timeout(GRACE, running) => ended,
        signal = signals.next() => bail!("{signal} again: the {name} ends at once; {UNDONE}"),
    };
    let ended = ended
        .map_err(|_| anyhow!("the {name} did not hand back its work within {GRACE:?}; {UNDONE}"))?;
    ended.map_err(|_| crashed(name))?;
    tracing::info!("the {name} has ended");
    Ok(())
}

fn crashed(name: &str) -> anyhow::Error {
    anyhow!("the {name} crashed; its log says where, and {UNDONE}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::process::Command;

    fn signal_myself() {
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// One test, since signals reach every role of the process.
    #[test]
    fn signals_end_a_role_and_a_second_one_at_once() {
        block_on(run_role("tester", |stop| async move {
            signal_myself();
            stop.cancelled().await;
        }))
        .unwrap();
        let ended = block_on(run_role("tester", |stop| async move {
            signal_myself();
            stop.cancelled().await;
            signal_myself();
            pending::<()>().await;
        }));
        assert!(ended.unwrap_err().to_string().starts_with("SIGTERM again"));
    }

    #[test]
    fn a_role_that_ends_by_itself_has_failed() {
        let ended = block_on(run_role("tester", |_| async {}));
        assert!(ended.unwrap_err().to_string().contains("nobody stopped it"));
        let crashed = block_on(run_role("tester", |_| async { panic!("on purpose") }));
        assert!(crashed.unwrap_err().to_string().contains("the tester crashed"));
    }
}
