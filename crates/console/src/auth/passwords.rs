//! Signing in: a name and a password for a session.
//!
//! A wrong name, a wrong password and a user who may not come in look the same, and take as long.
//! How many are tried is limited by `throttle`, how many are hashed at a time by the cores there
//! are: those who sign in wait for their turn, and no source takes all of the turns.

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

/// Passwords hashed at a time at most; each takes 19 MiB.
const MAX_HASHING: usize = 4;
/// Those who sign in at a time, waiting for their turn included.
const MAX_SIGNING_IN: usize = 256;
/// Those of one source.
const MAX_OF_A_SOURCE: usize = 16;
/// The longest wait for a turn.
const TURN_TIME: Duration = Duration::from_secs(10);
/// When to try again after there was no turn.
const NO_TURN: Denied = Denied::TooMany { wait: Duration::from_secs(1) };

/// The accounts of this installation, with what their passwords are checked with.
pub(crate) struct Accounts {
    /// Whether people may sign in with them.
    pub(crate) enabled: bool,
    pub(crate) store: Store,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) passwords: Passwords,
}

/// What guards passwords.
pub(crate) struct Passwords {
    throttle: Mutex<Throttle>,
    hashing: Arc<Semaphore>,
    signing_in: Mutex<SigningIn>,
}

/// Those who sign in right now.
#[derive(Debug, Default)]
struct SigningIn {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// One who signs in; counted until it is dropped.
struct Turn<'a> {
    passwords: &'a Passwords,
    source: Source,
}

/// Why nobody was signed in.
#[derive(Debug)]
pub(crate) enum Denied {
    /// There are no accounts to sign in with.
    NoAccounts,
    /// Name and password don't belong together, or the directory says that the user is disabled or
    /// deleted.
    Wrong,
    /// There were too many tries.
    TooMany {
        /// How long to wait for the next one.
        wait: Duration,
    },
    /// The database did not answer, or something else that is no fault of the caller's.
    Store(StoreError),
}

impl From<StoreError> for Denied {
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
) -> Result<Token, Denied> {
    if !accounts.enabled {
        return Err(Denied::NoAccounts);
    }
    // What is no name is nobody's, and what no account can have is nobody's password.
    let name = Name::parse(name).ok_or(Denied::Wrong)?;
    if password.len() > MAX_BYTES {
        return Err(Denied::Wrong);
    }
    let guard = &accounts.passwords;
    let is_familiar = guard.throttle().is_familiar(name.key(), source);
    let _turn = guard.turn(source, is_familiar).ok_or(NO_TURN)?;
    guard
        .throttle()
        .take(name.key(), source, Instant::now())
        .map_err(|wait| Denied::TooMany { wait })?;
    let checked = check(accounts, &name, password).await;
    // What failed for another reason was no try.
    if !matches!(checked, Err(Denied::Wrong)) {
        guard.throttle().give_back(name.key(), source, Instant::now());
    }
    let token = begin(accounts, &name, &checked?).await?;
    guard.throttle().signed_in(name.key(), source, Instant::now());
    Ok(token)
}

/// Returns the hash that the password belongs to, if its user may come in.
async fn check(accounts: &Accounts, name: &Name, password: String) -> Result<String, Denied> {
    let account = accounts.store.account_credentials(name).await?;
    // Asked before the password is checked, so that the answer takes as long either way.
    let standing = accounts.store.directory_status(name).await?;
    let turn = timeout(TURN_TIME, Arc::clone(&accounts.passwords.hashing).acquire_owned()).await;
    let permit = turn.map_err(|_| NO_TURN)?;
    let (right, account) = hashing(permit.ok(), password, account).await?;
    let account = account.filter(|_| right).ok_or(Denied::Wrong)?;
    let person = Person { name: name.clone(), administrator: account.administrator };
    admit(person, Authority::Account, standing).map_err(|_| {
        tracing::info!(
            user = name.as_str(),
            "refused to sign in a user who is not enabled in the directory"
        );
        Denied::Wrong
    })?;
    Ok(account.password_hash)
}

/// The permit goes along: the work goes on when whoever asked for it has gone.
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

async fn begin(accounts: &Accounts, name: &Name, password_hash: &str) -> Result<Token, Denied> {
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
    // Otherwise the password was changed at this very moment.
    if begun { Ok(token) } else { Err(Denied::Wrong) }
}

impl Passwords {
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signing_in(&self) -> MutexGuard<'_, SigningIn> {
        self.signing_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who sign in; `None` when all are taken, or all of this source that are
    /// for those who did not sign in from there before.
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
    fn one_source_does_not_take_all_turns() {
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
