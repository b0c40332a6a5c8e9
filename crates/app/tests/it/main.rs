//! Use cases with a real database; each test has a database of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod rights;
mod support;
