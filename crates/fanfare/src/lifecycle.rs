//! The life of a process: its roles start, work until a signal stops them, requeue unfinished work,
//! and end in time.

use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the roles may take to hand back their work. Supervisors grant 30 s or more; the rest is
/// for the process itself to end.
const GRACE: Duration = Duration::from_secs(25);

/// The advice when a process ends before its work is handed back. The broker delivers the messages
/// again that the process held.
const RESTART: &str = "its unfinished work will be done again; start the process again";

/// Runs a future to its end. Does not wait for blocking work that still runs then, such as a name
/// look-up.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// A role that is ready to run. It ends when its token is cancelled and its work is handed back.
pub(crate) struct Role {
    name: &'static str,
    run: Box<dyn FnOnce(CancellationToken) -> LocalBoxFuture<'static, ()>>,
}

impl Role {
    pub(crate) fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        Self { name, run: Box::new(move |stop| run(stop).boxed_local()) }
    }
}

/// Runs the roles of this process until SIGTERM or SIGINT, then gives them time to hand back their
/// work. If one role fails, the others hand back their work, and the process ends. `http_server` runs
/// until the last role has ended.
///
/// # Errors
///
/// A role crashed or ended without a signal, or the roles did not hand back their work within the
/// grace period or before a second signal.
pub(crate) async fn run_roles<F, Fut>(roles: Vec<Role>, http_server: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let signals = Signals::new()?;
    let stop = CancellationToken::new();
    let http_server = AssertUnwindSafe(http_server(stop.clone())).catch_unwind();
    tokio::select! {
        ended = supervise(Running::start(roles, &stop), stop, signals) => ended,
        _ = http_server => bail!("the metrics server crashed; the log says where; {RESTART}"),
    }
}

async fn supervise(
    mut roles: Running,
    stop: CancellationToken,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let failure = tokio::select! {
        Some((name, ended)) = roles.next() => {
            if !roles.names.is_empty() {
                tracing::error!("the {name} failed; handing back the work of the {roles}");
            }
            let unasked = "ended without a signal to stop; the log says why";
            Some(ended.err().unwrap_or_else(|| anyhow!("the {name} {unasked}")))
        }
        signal = signals.next() => {
            tracing::info!("{signal}: handing back the work of the {roles}");
            None
        }
    };
    stop.cancel();
    let outcome = tokio::select! {
        outcome = timeout(GRACE, roles.end(failure)) => outcome.ok(),
        signal = signals.next() => bail!("{signal} again: the process ends at once; {RESTART}"),
    };
    outcome.unwrap_or_else(|| {
        bail!("the work of the {roles} was not handed back within {GRACE:?}; {RESTART}")
    })
}

/// The roles that are still running.
struct Running {
    roles: FuturesUnordered<LocalBoxFuture<'static, (&'static str, anyhow::Result<()>)>>,
    names: Vec<&'static str>,
}

impl Running {
    fn start(roles: Vec<Role>, stop: &CancellationToken) -> Self {
        let names = roles.iter().map(|role| role.name).collect();
        let start = |Role { name, run }: Role| {
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "the {name} starts");
            // A panic becomes an error, so that the process exits as after any other failure.
            let running = AssertUnwindSafe(run(stop.clone())).catch_unwind();
            let crashed = move |_| anyhow!("the {name} crashed; the log says where; {RESTART}");
            async move { (name, running.await.map_err(crashed)) }.boxed_local()
        };
        Self { roles: roles.into_iter().map(start).collect(), names }
    }

    /// Waits for the next role to end; `None` if all have ended.
    async fn next(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let (name, ended) = self.roles.next().await?;
        self.names.retain(|running| *running != name);
        Some((name, ended))
    }

    /// Waits until all roles have ended. Returns the first failure, which is `failure` if there was one
    /// before.
    async fn end(&mut self, mut failure: Option<anyhow::Error>) -> anyhow::Result<()> {
        while let Some((name, ended)) = self.next().await {
            match ended {
                Ok(()) => tracing::info!("the {name} has ended"),
                Err(crashed) => failure = failure.or(Some(crashed)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Display for Running {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.names.join(", "))
    }
}

/// The signals that stop a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers: from now on these signals no longer kill the process.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and returns its name.
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
    use std::cell::Cell;
    use std::future::pending;
    use std::process::Command;
    use std::rc::Rc;

    fn run(roles: Vec<Role>) -> anyhow::Result<()> {
        block_on(run_roles(roles, |_| pending()))
    }

    fn signal_myself() {
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// One test for both cases, because a signal reaches every role of the process.
    #[test]
    fn first_signal_stops_the_roles_and_a_second_one_ends_the_process() {
        run(vec![Role::new("tester", |stop| async move {
            signal_myself();
            stop.cancelled().await;
        })])
        .unwrap();
        let ended = run(vec![Role::new("tester", |stop| async move {
            signal_myself();
            stop.cancelled().await;
            signal_myself();
            pending::<()>().await;
        })]);
        assert!(ended.unwrap_err().to_string().starts_with("SIGTERM again"));
    }

    #[test]
    fn role_that_ends_without_a_signal_is_an_error() {
        let ended = run(vec![Role::new("tester", |_| async {})]);
        assert!(ended.unwrap_err().to_string().contains("without a signal"));
        let crashed = run(vec![Role::new("tester", |_| async { panic!("on purpose") })]);
        assert!(crashed.unwrap_err().to_string().contains("the tester crashed"));
    }

    #[test]
    fn failed_role_stops_the_other_roles_before_the_process_ends() {
        let handed_back = Rc::new(Cell::new(false));
        let noted = Rc::clone(&handed_back);
        let ended = run(vec![
            Role::new("first", |stop| async move {
                stop.cancelled().await;
                tokio::task::yield_now().await;
                noted.set(true);
            }),
            Role::new("second", |_| async { panic!("on purpose") }),
        ]);
        assert!(ended.unwrap_err().to_string().contains("the second crashed"));
        assert!(handed_back.get());
    }
}
