//! Tests of the broker crate with a real broker; each test has a virtual host of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod support;

mod broken;
mod consumer;
mod dead_letters;
mod ladder;
mod publisher;
mod session;
mod supervise;
mod topology;
