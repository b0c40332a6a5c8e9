//! The rules of events, webhooks, access, notifications and retries.
//!
//! This crate is pure: no function waits, reads a clock, draws a random number, or fails for a
//! reason outside its arguments. The other crates ask it for decisions and carry them out.
//!
//! The modules in the order in which an event meets them:
//!
//! 1. [`event`] and [`directory`] parse what the report server publishes. [`reject`] has the
//!    reasons for which they refuse it, [`traceparent`] validates trace contexts, and [`mask`]
//!    removes confidential values.
//! 2. [`filter`] and [`access`] decide which owners may get an event about a [`resource`].
//!    [`history`] is the directory as of a revision, and [`revisions`] tracks missing revisions.
//!    [`webhook`] is the subscription, and [`registration`] parses a client's request for one.
//! 3. [`job`] is the message from a router to a worker; [`shard`] chooses its queue.
//! 4. [`notification`] renders the body of a POST, [`request`] signs it with the algorithms of
//!    [`signature`], and [`target`] decides which addresses it may be sent to.
//! 5. [`endpoint`] and [`group`] decide whether an endpoint may get a request now. [`pace`] is the
//!    rate that a receiver and an owner want ([`quota`] reads the headers about it). [`delivery`]
//!    decides what to do with a delivery whose attempt is due. [`outcome`] and [`retry`] decide
//!    what follows an [`answer`], and [`suspect`] what follows when workers end before there is an
//!    answer.
//! 6. [`explain`] gives the reasons why an event was sent to a webhook or not. [`test_event`]
//!    builds the event with which an owner tests a webhook. [`parity`] compares what is sent with
//!    what receivers got from another server.
//! 7. [`audit`] makes the entries of the audit trail. [`operation`] decides how bulk operations of
//!    administrators go on, and [`mend`] checks the correction of a dead event.
//! 8. [`notice`] decides which notices there are while a cause is open.
//! 9. [`password`] checks the passwords of local accounts, and [`spans`] has the target of spans.

pub mod access;
pub mod answer;
pub mod audit;
mod backlog;
pub mod capacity;
pub mod chain;
pub mod dead_letter;
pub mod delivery;
pub mod directory;
pub mod duration;
pub mod endpoint;
pub mod erasure;
pub mod event;
pub mod explain;
pub mod filter;
pub mod group;
pub mod history;
pub mod hosts;
pub mod ids;
pub mod job;
pub mod json;
pub mod kept;
pub mod mail_address;
pub mod mask;
pub mod mend;
pub mod name;
pub mod notice;
pub mod notification;
pub mod operation;
pub mod outcome;
pub mod pace;
pub mod parity;
pub mod password;
pub mod payload;
pub mod quota;
pub mod rate_limit;
pub mod recover;
pub mod registration;
pub mod reject;
pub mod request;
pub mod resource;
pub mod retry;
pub mod revisions;
pub mod shard;
pub mod signature;
pub mod spans;
pub mod suspect;
pub mod target;
pub mod test_event;
pub mod traceparent;
pub mod webhook;
