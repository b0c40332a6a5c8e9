//! Holders of leases, and how a holder that died is known to be dead.
//!
//! A worker has a random number, and a lock with that number on a database session that lives as
//! long as the worker does. The server frees the lock when the session ends: at once when the
//! process dies, since its host closes the connection. So the leases of a holder whose lock stays
//! free need not be waited for ([`Store::workers_look`](crate::Store::workers_look)).
//!
//! A free lock alone does not prove a death: a connection can be lost as well. A holder that lives
//! begins another session and locks again within [`GRACE`], and begins no POST under a lease meanwhile,
//! because it can no longer show that it has the lock ([`Holder::proven`]).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// The first of the two numbers of a holder's lock: "Fanf" in ASCII. Locks with two numbers never
/// meet those with one number, which all other locks of Fanfare have.
pub const LOCK_CLASS: i32 = 0x4661_6e66;

/// How long a lock must be free until the leases of its holder are void. A holder that
/// lives begins another session after a second.
pub const GRACE: Duration = Duration::from_secs(3);

/// A worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(pub(crate) Uuid);

impl WorkerId {
    /// Makes an id that no other process has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

/// How long a proof of the lock counts: half the grace, so that a POST that was begun by it has
/// begun before anyone else can find the lease void.
const PROOF: Duration = Duration::from_millis(1500);

/// A process that holds leases.
#[derive(Debug)]
pub struct Holder {
    worker: WorkerId,
    id: i32,
    /// The session that has the lock.
    session: Mutex<Option<LockedSession>>,
}

/// A session that has a holder's lock.
#[derive(Debug, Clone, Copy)]
struct LockedSession {
    /// When it was first seen to live.
    since: Instant,
    /// When it was last seen to live.
    until: Instant,
}

impl Holder {
    /// A worker with a random id, and a random number for its lock. Two that get the same number count
    /// as alive while one of them lives.
    #[must_use]
    pub fn random() -> Self {
        let bits = Uuid::new_v4().as_u128() & 0x7fff_ffff;
        let id = i32::try_from(bits).unwrap_or(i32::MAX);
        Self { worker: WorkerId::random(), id, session: Mutex::default() }
    }

    /// The worker.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Its number, if it had the lock a moment ago. Leases that are taken without it have no holder,
    /// and are over when they expire.
    #[must_use]
    pub fn proven(&self) -> Option<i32> {
        self.locked().map(|_| self.id)
    }

    /// Whether it has had the lock on one session since `time`. Between two sessions the lock was
    /// free, and leases from before may be void.
    #[must_use]
    pub fn proven_since(&self, time: Instant) -> bool {
        self.locked().is_some_and(|session| session.since <= time)
    }

    fn locked(&self) -> Option<LockedSession> {
        self.session().filter(|session| session.until.elapsed() <= PROOF)
    }

    /// Locks, and writes that to the worker's row, by which others learn of its death. False if the
    /// worker has not reported yet, or if another session keeps the lock or the row for longer than the
    /// `lock_timeout` of this one, such as this holder's former session, which the server has not ended
    /// yet.
    ///
    /// It waits, because those who ask whether the lock is free have it for a moment. While it waits,
    /// the lock is not free for them.
    pub(crate) async fn lock(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        const LOCK: &str = "-- holder_lock\nselect pg_advisory_lock($1, $2)";
        // By this session, so that it names the run of the server that has the lock.
        const REGISTER: &str = "-- holder_register
            update workers
            set holder = $2, server = server_run(), seen_at = clock_timestamp(),
                dead_from = null, found_on = null
            where worker = $1";
        let locked = async {
            client.execute(LOCK, &[&LOCK_CLASS, &self.id]).await?;
            client.execute(REGISTER, &[&self.worker.0, &self.id]).await
        };
        match locked.await {
            Ok(rows) => Ok(rows == 1),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes that the session that has the lock lived at this time.
    pub(crate) fn note(&self, lived: Instant) {
        let mut session = self.session();
        let since = session.map_or(lived, |session| session.since);
        *session = Some(LockedSession { since, until: lived });
    }

    /// Notes that the session has ended.
    pub(crate) fn forget(&self) {
        *self.session() = None;
    }

    fn session(&self) -> MutexGuard<'_, Option<LockedSession>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
