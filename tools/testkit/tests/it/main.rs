//! Tests of the testkit with real servers and sockets.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod faults;
mod pgproxy;
mod process;
mod proxy;
mod receiver;
mod sandbox;
mod servers;
