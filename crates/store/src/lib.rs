//! Every statement that Fanfare sends to PostgreSQL.
//!
//! The database holds three things: the directory with its history, the webhooks, and the ledger.
//! The ledger says what is owed (`events` with their plans) and what was done (`attempts`). The
//! broker only carries jobs, so wiping it loses no delivery.
//!
//! A statement of twenty lines or more is a file of `sql/`, unless it is put together from parts that
//! other statements share. Its first line is a comment with its name, which spans have.
//!
//! Each subject has one file. The main flow is [`routing`] (events come in), [`attempts`] (workers
//! read and record) and [`reconcile`] (a router finds the jobs that were lost).

pub mod access;
pub mod accounts;
pub mod attempts;
pub mod audit;
mod cancel;
pub mod claims;
pub mod clock;
mod config;
mod connect;
mod connection;
pub mod deliveries;
pub mod directory;
pub mod erasure;
mod error;
pub mod events;
pub mod explain;
#[doc(hidden)]
pub mod fuzzing;
mod generation;
pub mod health;
pub mod holder;
pub mod kept;
pub mod keyring;
pub mod letters;
pub mod listen;
mod located;
mod migrate;
mod misconfigured;
pub mod notices;
pub mod operations;
pub mod overview;
pub mod paces;
pub mod payloads;
mod pool;
mod pooler;
pub mod processes;
pub mod progress;
pub mod publishers;
pub mod random;
pub mod reconcile;
pub mod retention;
pub mod retry;
pub mod routing;
mod rows;
mod session;
pub mod sessions;
pub mod shadow;
pub mod sizes;
mod spans;
mod standbys;
mod statement;
pub mod statistics;
mod target;
pub mod test_events;
mod unreachable;
pub mod webhooks;
pub mod workers;

pub use cancel::{CancelOnDrop, cancel_on_drop};
pub use config::{Config, PlanMode, STATEMENT_TIME};
pub use error::{Remedy, StoreError};
pub use migrate::{Migrated, SchemaState};
pub use misconfigured::Misconfiguration;
pub use pool::Store;
pub use unreachable::Unreachable;
