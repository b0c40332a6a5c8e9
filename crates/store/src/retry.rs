//! Waiting for a database that is away.
//!
//! Whoever holds a message holds on to it while the database is away: giving it back would only
//! move it round and round. One warning says that the wait began, one line that it ended, however
//! many wait in this process.
//!
//! A call whose answer was lost may have taken effect. It is repeated, and [`answered`] says that an
//! earlier try is in doubt, for callers to which that makes a difference.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Remedy, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a call is tried in a row that may itself be why it fails.
const TRIES: u32 = 3;

/// How often a call is tried in a row that can't be made smaller. With the longest pause between
/// two tries this is about half a minute, if the database answers at once.
const TRIES_OF_UNDIVIDED: u32 = 16;

/// How often a call that lost against others is repeated without a pause.
const REPEATS: u32 = 10;

/// What this process has said that it waits for: nothing, time, or else a person; then it is the hash
/// of what that person has to do.
static WAITING: AtomicU64 = AtomicU64::new(NOTHING);

/// For nothing: it has said so, or never waited.
const NOTHING: u64 = 0;

/// For time to pass.
const TIME: u64 = 1;

/// Says what is waited for, unless that has been said.
fn say(error: &StoreError) {
    if is_new(&WAITING, error.advice()) {
        tracing::warn!(error = error.chain(), "waiting for the database");
    }
}

/// Notes what is waited for. It is worth a line when a wait begins, and whenever there is something
/// else for a person to do.
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

/// Why a patient call ended without success.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The process is stopping.
    #[error("the process is stopping while the database is away")]
    ShuttingDown,
    /// The database refused the data of this call; it would do so again.
    #[error(transparent)]
    Rejected(StoreError),
    /// The database answers, and this call failed several times in a row. A smaller call may
    /// succeed.
    #[error(transparent)]
    Failing(StoreError),
}

/// What a patient call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// Whether the answer of an earlier try was lost, so that what this one met may be the work of
    /// that one.
    pub in_doubt: bool,
}

/// Calls until the database has answered, the process stops, or the database refuses the data.
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

/// The same for a call that its caller can divide, and so with few tries of one that may itself be
/// why it fails. Says whether an earlier try may have taken effect.
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
    most: u32,
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
                if failures >= most {
                    // Others wait for something else, and say so.
                    WAITING.store(NOTHING, Ordering::Relaxed);
                    return Err(QueryError::Failing(error));
                }
            }
            Remedy::Repeat | Remedy::Wait => failures = 0,
        }
        say(&error);
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
    fn each_wait_and_each_new_advice_are_said_once() {
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
