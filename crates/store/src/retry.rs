//! Retries of calls while the database is unavailable.
//!
//! A router or worker keeps its messages while the database is unavailable, because a requeued
//! message would only be delivered again at once. One line of the log says that the wait began, and
//! one that it ended, whatever the number of calls that wait in this process.
//!
//! A call whose answer was lost may have taken effect. It is repeated, and [`retry_divisible`]
//! reports that an earlier try is in doubt.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Remedy, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The number of failures in a row after which a call that can be divided is given up, since it may
/// itself be the cause.
const TRIES: u32 = 3;

/// The same for a call that can't be divided. With the longest pause between two tries this is
/// about half a minute, if the database answers at once.
const TRIES_OF_UNDIVIDED: u32 = 16;

/// The number of times that a call is repeated without a pause after it lost against another
/// transaction.
pub(crate) const REPEATS: u32 = 10;

/// The reason to wait that this process logged last: [`NOTHING`], [`TIME`], or a person's action,
/// as the hash of the advice.
static WAITING: AtomicU64 = AtomicU64::new(NOTHING);

/// No call waits, and that was logged if one did.
const NOTHING: u64 = 0;

/// The database may become available by itself.
const TIME: u64 = 1;

/// Logs the reason to wait, unless it was logged already.
fn log_wait(error: &StoreError) {
    if is_new(&WAITING, error.advice()) {
        tracing::warn!(error = error.chain(), "waiting for the database");
    }
}

/// Notes the reason to wait, and returns whether to log it: when a wait begins, and when a person
/// has to do something else than before.
fn is_new(waiting: &AtomicU64, advice: Option<&str>) -> bool {
    let Some(advice) = advice else {
        let begun = waiting.compare_exchange(NOTHING, TIME, Ordering::Relaxed, Ordering::Relaxed);
        return begun.is_ok();
    };
    let mut hasher = DefaultHasher::new();
    advice.hash(&mut hasher);
    let cause = hasher.finish().max(TIME + 1);
    waiting.swap(cause, Ordering::Relaxed) != cause
}

/// The reason why a call was given up.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The process is shutting down.
    #[error("the process is stopping while the database is away")]
    ShuttingDown,
    /// The database refused the data of this call, and would refuse it again.
    #[error(transparent)]
    Rejected(StoreError),
    /// The database answers, and this call failed several times in a row. A smaller call may
    /// succeed.
    #[error(transparent)]
    Failing(StoreError),
}

/// The answer to a call that may have been tried several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<T> {
    pub value: T,
    /// Whether the answer to an earlier try was lost. The last try may then have met the effect of
    /// that one.
    pub in_doubt: bool,
}

/// Repeats a call until the database answers it.
///
/// # Errors
///
/// [`QueryError`]; `Failing` after about half a minute.
pub async fn retry_until_available<T, Answer: Future<Output = Result<T, StoreError>>>(
    stop: &CancellationToken,
    call: impl FnMut() -> Answer,
) -> Result<T, QueryError> {
    repeat(stop, TRIES_OF_UNDIVIDED, call).await.map(|answered| answered.value)
}

/// Repeats a call that its caller can divide. It gives up after a few failures in a row that the
/// call may have caused itself. The answer says whether an earlier try may have taken effect.
///
/// # Errors
///
/// [`QueryError`]; `Failing` after the third such error in a row.
pub async fn retry_divisible<T, Answer: Future<Output = Result<T, StoreError>>>(
    stop: &CancellationToken,
    call: impl FnMut() -> Answer,
) -> Result<Answered<T>, QueryError> {
    repeat(stop, TRIES, call).await
}

async fn repeat<T, Answer: Future<Output = Result<T, StoreError>>>(
    stop: &CancellationToken,
    max_failures: u32,
    mut call: impl FnMut() -> Answer,
) -> Result<Answered<T>, QueryError> {
    let mut pause = FIRST_PAUSE;
    let (mut waited, mut in_doubt) = (false, false);
    let (mut repeats, mut failures) = (0, 0);
    loop {
        let error = match call().await {
            Ok(value) => {
                if waited && WAITING.swap(NOTHING, Ordering::Relaxed) != NOTHING {
                    tracing::info!("the database answers again");
                }
                return Ok(Answered { value, in_doubt });
            }
            Err(error) => error,
        };
        in_doubt |= error.may_have_taken_effect();
        match error.remedy() {
            Remedy::NeverRepeat => return Err(QueryError::Rejected(error)),
            Remedy::Repeat if repeats < REPEATS => {
                repeats += 1;
                continue;
            }
            Remedy::Reduce => {
                failures += 1;
                if failures >= max_failures {
                    // Other calls may wait for another reason, and log it.
                    WAITING.store(NOTHING, Ordering::Relaxed);
                    return Err(QueryError::Failing(error));
                }
            }
            Remedy::Repeat | Remedy::Wait => failures = 0,
        }
        log_wait(&error);
        waited = true;
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(QueryError::ShuttingDown);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_and_each_new_advice_are_logged_once() {
        let waiting = AtomicU64::new(NOTHING);
        for (advice, expected) in [
            (None, true),
            (None, false),
            (Some("correct the password"), true),
            (Some("correct the password"), false),
            (None, false),
            (Some("correct the password"), false),
            (Some("run `fanfare migrate`"), true),
            (None, false),
        ] {
            assert_eq!(is_new(&waiting, advice), expected, "{advice:?}");
        }
        waiting.store(NOTHING, Ordering::Relaxed);
        assert!(is_new(&waiting, Some("run `fanfare migrate`")));
    }
}
