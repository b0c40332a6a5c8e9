//! The settings of a [`Store`](crate::Store).

use std::time::Duration;

use crate::keyring::Keyring;

/// The parameters of a process's connections to the database.
#[derive(Clone)]
pub struct Config {
    /// A PostgreSQL connection string or URL, as `psql` takes it. It may name several hosts, and
    /// the files of certificates.
    pub url: String,
    /// The most connections that this process holds.
    pub max_connections: usize,
    pub plan_mode: PlanMode,
    /// The name that operators see in `pg_stat_activity`.
    pub application_name: String,
    /// The keys that seal secrets.
    pub keyring: Keyring,
}

/// The planning of a session's statements, and the time that one may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanMode {
    /// Generic plans, which are kept: for a few statements that run hundreds of times a second over
    /// arrays of ids. Planning takes longer than running them, and the best plan does not depend on
    /// the ids.
    Generic,
    /// A plan for the values of each statement: for lists with filters.
    Custom,
    /// [`Custom`](Self::Custom) for people who wait for the answer: the database ends a statement
    /// that takes longer than [`STATEMENT_TIME`].
    Interactive,
}

/// The longest that a statement may take under [`PlanMode::Interactive`].
pub const STATEMENT_TIME: Duration = Duration::from_secs(10);
