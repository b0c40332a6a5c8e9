//! Tests of the store with a real database, of which each test has its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod access;
mod access_shown;
mod audit;
mod cancel;
mod claims;
mod departures;
mod directory;
mod failover;
mod letters;
mod migrate;
mod notices;
mod pages;
mod pages_of_partitions;
mod partitions;
mod payloads;
mod reconcile;
mod recover;
mod refold;
mod refusals;
mod retention;
mod routing;
mod statements;
mod statistics;
mod support;
mod workers;
