//! Signing in: a name and a password for a session.
//!
//! A wrong name and a wrong password look the same, and take as long. How many are tried is
//! limited by `throttle`, how many are hashed at a time by the cores there are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use fanfare_core::name::Name;
use fanfare_store::StoreError;
use fanfare_store::accounts::verify_password;
use fanfare_store::sessions::NewSession;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::throttle::Throttle;
use super::token::Token;
use crate::app::App;

/// How long a session lasts.
pub(crate) const SESSION: Duration = Duration::from_hours(24);

/// Passwords hashed at a time at most; each takes 19 MiB.
const MAX_HASHING: usize = 4;
/// Those who sign in at a time, waiting for their turn included.
const MAX_SIGNING_IN: usize = 256;

/// What guards passwords.
pub(crate) struct Passwords {
    throttle: Mutex<Throttle>,
    hashing: Arc<Semaphore>,
    signing_in: Semaphore,
}

/// Why nobody was signed in.
#[derive(Debug)]
pub(crate) enum Denied {
    /// There are no accounts to sign in with.
    NoAccounts,
    /// Name and password don't belong together.
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
            signing_in: Semaphore::new(MAX_SIGNING_IN),
        }
    }
}

/// Checks a password and begins a session of [`SESSION`].
pub(crate) async fn sign_in(app: &App, name: &str, password: String) -> Result<Token, Denied> {
    if !app.local_accounts {
        return Err(Denied::NoAccounts);
    }
    // What is no name is nobody's.
    let name = Name::parse(name).ok_or(Denied::Wrong)?;
    let guard = &app.passwords;
    let wait = Duration::from_secs(1);
    let _turn = guard.signing_in.try_acquire().map_err(|_| Denied::TooMany { wait })?;
    guard.throttle().take(name.key(), Instant::now()).map_err(|wait| Denied::TooMany { wait })?;
    let checked = check(app, &name, password).await;
    // What failed for another reason was no try.
    if !matches!(checked, Err(Denied::Wrong)) {
        guard.throttle().give_back(name.key(), Instant::now());
    }
    begin(app, &name, &checked?).await
}

/// Returns the hash that the password belongs to.
async fn check(app: &App, name: &Name, password: String) -> Result<String, Denied> {
    let hash = app.store.account_password(name).await?;
    let permit = Arc::clone(&app.passwords.hashing).acquire_owned().await;
    let (right, hash) = hashing(permit.ok(), password, hash).await?;
    hash.filter(|_| right).ok_or(Denied::Wrong)
}

/// The permit goes along: the work goes on when whoever asked for it has gone.
async fn hashing(
    permit: Option<OwnedSemaphorePermit>,
    password: String,
    hash: Option<String>,
) -> Result<(bool, Option<String>), StoreError> {
    let work = move || {
        let right = verify_password(&password, hash.as_deref());
        drop(permit);
        right.map(|right| (right, hash))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Password(error.to_string()))?
}

async fn begin(app: &App, name: &Name, password_hash: &str) -> Result<Token, Denied> {
    let token = Token::random().map_err(|error| StoreError::Random(error.to_string()))?;
    let now = (app.clock)();
    let session = NewSession {
        digest: &token.digest(),
        account: name,
        password_hash,
        created_at: now,
        expires_at: now + SESSION,
    };
    let begun = app.store.session_add(session).await?;
    // Otherwise the password was changed at this very moment.
    if begun { Ok(token) } else { Err(Denied::Wrong) }
}

impl Passwords {
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
