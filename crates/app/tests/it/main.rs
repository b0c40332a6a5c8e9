//! Use cases against a real database; each test has one of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod rights;
mod support;
