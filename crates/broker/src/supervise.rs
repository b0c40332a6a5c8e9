//! The one loop that keeps a process with the broker: connect, work, and after any failure wait a
//! little and start again.

use crate::config::Config;
use crate::error::{Cause, chain};
use crate::session::Session;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The pause after a first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A session that lived this long was a good one: the next failure counts as a first.
const STEADY: Duration = Duration::from_secs(30);

/// How it stands with the broker, for a readiness page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An attempt to connect is under way.
    Connecting,
    /// Connected, with the topology declared.
    Connected,
    /// Connected, but the broker takes no messages: it is short of memory or disk.
    Blocked,
    /// Not connected; the next attempt follows after a pause.
    Down,
}

/// Opens a session and runs `body` with it, again and again, until `body` ends well or `stop` is
/// cancelled.
///
/// After an error of `body`, or when no session could be opened, one warning tells why and when the
/// next attempt comes: after 0.2 s, doubling up to 5 s, each with jitter. `on_state` hears of every
/// change.
///
/// `stop` ends waiting and connecting at once. A running `body` is not interrupted: it watches
/// `stop` (and [`Session::lost`], where it waits for something else) itself, so that it can hand
/// its work back. When `body` returns, its session is closed.
pub async fn supervise<E, Work>(
    config: &Config,
    stop: &CancellationToken,
    on_state: impl Fn(State),
    mut body: impl FnMut(Session) -> Work,
) where
    E: Into<Cause>,
    Work: Future<Output = Result<(), E>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        on_state(State::Connecting);
        let Some(opened) = stop.run_until_cancelled(Session::open(config)).await else {
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

/// Does the body's work, telling when the broker blocks meanwhile, and closes the session after it.
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

/// Between half of the pause and all of it, so that processes do not come back in step.
fn jitter(pause: Duration) -> Duration {
    let [random, ..] = Uuid::new_v4().into_bytes();
    pause / 2 + pause / 2 * u32::from(random) / u32::from(u8::MAX)
}
