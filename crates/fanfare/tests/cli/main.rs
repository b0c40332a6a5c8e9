//! The command line as scripts see it: exit codes, streams, settings, and a receiver on a socket.

#![expect(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod colours;
mod command;
mod config;
mod listen;
mod misconfigured;
mod retention;
mod roles;
mod servers;
mod setup;
mod symbols;
mod traffic;
mod usage;
mod webhooks;
