//! The loops that keep a process connected to the broker: connect, work, and after any failure pause
//! and start again. There is one for the session, and one for each queue that is consumed over it.

use crate::config::Config;
use crate::error::{BrokerError, Cause};
use crate::session::Session;
use crate::topology::Queue;
use fanfare_core::chain::{causes, chain};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After a session that lasted this long, the next failure counts as the first one.
const STEADY: Duration = Duration::from_secs(30);

/// Connections that end within this time of each other have ended together.
const TOGETHER: Duration = Duration::from_millis(200);

/// The state of the connection to the broker, for the readiness check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An attempt to connect is under way.
    Connecting,
    /// Connected, with the topology declared.
    Connected,
    /// Connected, but the broker blocks publishers, because it is short of memory or disk.
    Blocked,
    /// Not connected; the next attempt follows after a pause.
    Down,
}

/// Opens a session and runs `body` with it, again and again, until `body` ends well or `stop` is
/// cancelled.
///
/// After an error of `body`, or when no session could be opened, one warning says why, and when the
/// next attempt follows: after 0.2 s, doubling up to 5 s, each with jitter. `on_state` is called with
/// every new state.
///
/// `stop` ends waiting and connecting at once. A running `body` is not interrupted: it watches
/// `stop` (and [`Session::lost`], where it waits for something else) itself, so that it can requeue
/// its work. When `body` returns, its session is closed.
pub async fn supervise<E, Work>(
    config: &Config,
    stop: &CancellationToken,
    on_state: impl Fn(State),
    body: impl FnMut(Session) -> Work,
) where
    E: Into<Cause>,
    Work: Future<Output = Result<(), E>>,
{
    supervise_opening(config, stop, on_state, || Session::open(config), body).await;
}

/// The same with sessions that `open` opens.
pub async fn supervise_opening<E, Work, Opening>(
    config: &Config,
    stop: &CancellationToken,
    on_state: impl Fn(State),
    mut open: impl FnMut() -> Opening,
    mut body: impl FnMut(Session) -> Work,
) where
    E: Into<Cause>,
    Work: Future<Output = Result<(), E>>,
    Opening: Future<Output = Result<Session, BrokerError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        on_state(State::Connecting);
        let Some(opened) = stop.run_until_cancelled(open()).await else {
            return;
        };
        let began = Instant::now();
        let failure: Cause = match opened {
            Err(error) => error.into(),
            Ok(session) => match run(&session, &on_state, body(session.clone())).await {
                Ok(()) => return,
                Err(error) => error.into(),
            },
        };
        on_state(State::Down);
        if began.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        let wait = jitter(pause);
        warn(config, failure.as_ref(), wait);
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs `body`, which consumes `queue` over the session, again and again until it ends well, `stop`
/// is cancelled, or the session is lost.
///
/// After an error of `body` the queue counts as not consumed
/// ([`QueueHealth`](crate::QueueHealth)), and `body` is run again after a pause: 0.2 s, doubling up
/// to 5 s, each with jitter. A missing queue is declared again, if this user may. The first error is a
/// warning. While the queue goes on failing, further warnings follow at growing intervals.
pub async fn keep_consuming<E, Work>(
    session: &Session,
    queue: Queue,
    stop: &CancellationToken,
    mut body: impl FnMut() -> Work,
) where
    E: Into<Cause>,
    Work: Future<Output = Result<(), E>>,
{
    let mut pause = FIRST_PAUSE;
    let mut warnings = Warnings::default();
    loop {
        let began = Instant::now();
        let Err(failure) = body().await else { return };
        // A broker that goes away ends all connections, but not at the same moment.
        if timeout(TOGETHER, session.lost()).await.is_ok() || stop.is_cancelled() {
            return;
        }
        let failure: Cause = failure.into();
        let problem = chain(failure.as_ref());
        session.config().queue_health().failed(queue, problem.clone());
        if began.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
            warnings = Warnings::default();
        }
        if warnings.is_due() {
            tracing::warn!(
                queue = queue.name(),
                error = problem,
                "a queue can't be consumed; trying again, other queues are not affected"
            );
        }
        if is_missing(failure.as_ref()) {
            session.restore(queue).await;
        }
        let wait = tokio::time::sleep(jitter(pause));
        tokio::select! {
            () = wait => {}
            () = session.lost() => return,
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether a consumer failed because its queue does not exist, or was deleted.
fn is_missing(failure: &(dyn std::error::Error + 'static)) -> bool {
    causes(failure).filter_map(|error| error.downcast_ref::<BrokerError>()).any(|error| {
        matches!(error, BrokerError::Missing { .. } | BrokerError::ConsumerGone { .. })
    })
}

/// When to warn of a repeated failure: at once, after a minute, and then each time after twice the
/// time before.
#[derive(Default)]
struct Warnings {
    last: Option<(Instant, Duration)>,
}

impl Warnings {
    const FIRST: Duration = Duration::from_mins(1);
    const LONGEST: Duration = Duration::from_mins(10);

    fn is_due(&mut self) -> bool {
        let next = match self.last {
            None => Self::FIRST,
            Some((at, after)) if at.elapsed() >= after => (after * 2).min(Self::LONGEST),
            Some(_) => return false,
        };
        self.last = Some((Instant::now(), next));
        true
    }
}

/// Runs the body, reports meanwhile when the broker blocks publishers, and then closes the session.
async fn run<E>(
    session: &Session,
    on_state: &impl Fn(State),
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    on_state(State::Connected);
    let mut blocked = session.blocked();
    let result = {
        let mut working = pin!(work);
        loop {
            tokio::select! {
                result = &mut working => break result,
                Ok(()) = blocked.changed() => {
                    let is_blocked = *blocked.borrow_and_update();
                    on_state(if is_blocked { State::Blocked } else { State::Connected });
                }
            }
        }
    };
    session.close().await;
    result
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "pauses are seconds, not millennia of milliseconds"
)]
fn warn(config: &Config, failure: &(dyn std::error::Error + 'static), wait: Duration) {
    tracing::warn!(
        broker = config.broker(),
        error = chain(failure),
        retry_in_ms = wait.as_millis() as u64,
        "the session with the broker ended or could not be opened; trying again"
    );
}

/// A random time between half of the pause and all of it, so that processes do not reconnect at the
/// same time.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
