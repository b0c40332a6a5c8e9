//! Signing in with a local account: a name and a password begin a session.
//!
//! A wrong name, a wrong password and a user who may not sign in get the same answer after the same
//! time. `throttle` limits the attempts. The number of cores limits how many passwords are hashed
//! at a time: sign-ins wait for their turn, and no source can take all turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::name::Name;
use fanfare_core::password::MAX_BYTES;
use fanfare_store::accounts::{Credentials, verify_password};
use fanfare_store::sessions::NewSession;
use fanfare_store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::throttle::{Source, Throttle};
use super::token::Token;
use crate::oidc::admission::{Authority, admit};
use crate::oidc::claims::Person;

/// How long a session lasts.
pub(crate) const SESSION: Duration = Duration::from_hours(24);

/// The maximum number of passwords that are hashed at a time. Each takes 19 MiB.
const MAX_HASHING: usize = 4;
/// The maximum number of sign-ins at a time, including those that wait for their turn.
const MAX_SIGNING_IN: usize = 256;
/// The maximum number of these from one source.
const MAX_OF_A_SOURCE: usize = 16;
/// The longest wait for a turn.
const TURN_TIME: Duration = Duration::from_secs(10);
/// The answer when there was no turn: try again after a second.
const NO_TURN: SignInError = SignInError::TooMany { wait: Duration::from_secs(1) };

/// The local accounts, and the state that is needed to check their passwords.
pub(crate) struct Accounts {
    /// Whether people may sign in with local accounts.
    pub(crate) enabled: bool,
    pub(crate) store: Store,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) passwords: Passwords,
}

/// The limits that protect passwords.
pub(crate) struct Passwords {
    throttle: Mutex<Throttle>,
    hashing: Arc<Semaphore>,
    signing_in: Mutex<SigningIn>,
}

/// The number of current sign-ins, in all and by source.
#[derive(Debug, Default)]
struct SigningIn {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// One sign-in. It counts until this is dropped.
struct Turn<'a> {
    passwords: &'a Passwords,
    source: Source,
}

/// Why a sign-in was refused.
#[derive(Debug)]
pub(crate) enum SignInError {
    /// Local accounts are turned off.
    NoAccounts,
    /// The name or the password is wrong, or the user is disabled or deleted in the directory.
    Wrong,
    /// There were too many attempts.
    TooMany {
        /// How long to wait for the next attempt.
        wait: Duration,
    },
    /// The database did not answer, or another internal error occurred.
    Store(StoreError),
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            throttle: Mutex::default(),
            hashing: Arc::new(Semaphore::new(cores.min(MAX_HASHING))),
            signing_in: Mutex::default(),
        }
    }
}

/// Checks a password and begins a session of [`SESSION`].
pub(crate) async fn sign_in(
    accounts: &Accounts,
    source: Source,
    name: &str,
    password: String,
) -> Result<Token, SignInError> {
    if !accounts.enabled {
        return Err(SignInError::NoAccounts);
    }
    // An invalid name belongs to no account, and an invalid password to no account either.
    let name = Name::parse(name).ok_or(SignInError::Wrong)?;
    if password.len() > MAX_BYTES {
        return Err(SignInError::Wrong);
    }
    let guard = &accounts.passwords;
    let is_familiar = guard.throttle().is_familiar(name.key(), source);
    let _turn = guard.turn(source, is_familiar).ok_or(NO_TURN)?;
    guard
        .throttle()
        .take(name.key(), source, Instant::now())
        .map_err(|wait| SignInError::TooMany { wait })?;
    let checked = check(accounts, &name, password).await;
    // A failure for another reason does not count as an attempt.
    if !matches!(checked, Err(SignInError::Wrong)) {
        guard.throttle().give_back(name.key(), source, Instant::now());
    }
    let token = begin(accounts, &name, &checked?).await?;
    guard.throttle().signed_in(name.key(), source, Instant::now());
    Ok(token)
}

/// Checks a password and returns its hash, if its user may sign in.
async fn check(accounts: &Accounts, name: &Name, password: String) -> Result<String, SignInError> {
    let account = accounts.store.account_credentials(name).await?;
    // Read this before the password is checked, so that both answers take equally long.
    let status = accounts.store.directory_status(name).await?;
    let turn = timeout(TURN_TIME, Arc::clone(&accounts.passwords.hashing).acquire_owned()).await;
    let permit = turn.map_err(|_| NO_TURN)?;
    let (right, account) = hashing(permit.ok(), password, account).await?;
    let account = account.filter(|_| right).ok_or(SignInError::Wrong)?;
    let person = Person { name: name.clone(), administrator: account.administrator };
    admit(person, Authority::Account, status).map_err(|_| {
        tracing::info!(
            user = name.as_str(),
            "refused to sign in a user who is not enabled in the directory"
        );
        SignInError::Wrong
    })?;
    Ok(account.password_hash)
}

/// Verifies a password on a blocking thread. The permit moves there, because hashing continues even
/// if the client has disconnected.
async fn hashing(
    permit: Option<OwnedSemaphorePermit>,
    password: String,
    account: Option<Credentials>,
) -> Result<(bool, Option<Credentials>), StoreError> {
    let work = move || {
        let hash = account.as_ref().map(|account| account.password_hash.as_str());
        let right = verify_password(&password, hash);
        drop(permit);
        right.map(|right| (right, account))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Password(error.to_string()))?
}

async fn begin(
    accounts: &Accounts,
    name: &Name,
    password_hash: &str,
) -> Result<Token, SignInError> {
    let token = Token::random()?;
    let now = (accounts.clock)();
    let session = NewSession {
        digest: &token.digest(),
        account: name,
        password_hash,
        created_at: now,
        expires_at: now + SESSION,
    };
    let begun = accounts.store.session_add(session).await?;
    // The session is not added if the password was changed at this very moment.
    if begun { Ok(token) } else { Err(SignInError::Wrong) }
}

impl Passwords {
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signing_in(&self) -> MutexGuard<'_, SigningIn> {
        self.signing_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn to sign in. Returns `None` when all turns are taken, or all turns of this
    /// source that are for users who have not signed in from there before.
    fn turn(&self, source: Source, is_familiar: bool) -> Option<Turn<'_>> {
        let mut signing_in = self.signing_in();
        let of_source = signing_in.by_source.get(&source).copied().unwrap_or(0);
        let is_full = of_source >= MAX_OF_A_SOURCE && !is_familiar;
        if signing_in.all >= MAX_SIGNING_IN || is_full {
            return None;
        }
        signing_in.all += 1;
        signing_in.by_source.insert(source, of_source + 1);
        Some(Turn { passwords: self, source })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut signing_in = self.passwords.signing_in();
        signing_in.all -= 1;
        let left = signing_in.by_source.get(&self.source).map_or(0, |count| count - 1);
        if left == 0 {
            signing_in.by_source.remove(&self.source);
        } else {
            signing_in.by_source.insert(self.source, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn one_source_can_not_take_all_turns() {
        let passwords = Passwords::default();
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let (here, there) = (source("192.0.2.1"), source("192.0.2.2"));
        let mut turns: Vec<_> =
            (0..MAX_OF_A_SOURCE).filter_map(|_| passwords.turn(here, false)).collect();
        assert_eq!(turns.len(), MAX_OF_A_SOURCE);
        assert!(passwords.turn(here, false).is_none());
        assert!(passwords.turn(here, true).is_some());
        assert!(passwords.turn(there, false).is_some());
        turns.pop();
        assert!(passwords.turn(here, false).is_some());
        drop(turns);
        assert_eq!(passwords.signing_in().all, 0);
        assert!(passwords.signing_in().by_source.is_empty());
    }
}
