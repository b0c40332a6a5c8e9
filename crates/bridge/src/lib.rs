//! The bridge to a report server that publishes nothing to a broker.
//!
//! It registers one webhook at the report server, and publishes each of its [notifications](notification)
//! as an event. It reads the server's users, roles and permissions ([`answers`]), makes a
//! [directory](directory) of them, and publishes the documents that [change](changes) it.
//!
//! What the report server does is not documented in full. What is a guess never decides that something
//! is lost, or that access is given.

pub mod answers;
pub mod changes;
pub mod directory;
pub mod notification;

#[cfg(test)]
mod directory_tests;
