//! What is true of events, webhooks, access, notifications and retries.
//!
//! Pure: nothing here waits, reads a clock, draws a random number or can fail for a reason outside
//! its arguments. The other crates ask this one what to do and then do it.
//!
//! The modules in the order in which an event meets them:
//!
//! 1. [`event`] and [`directory`] parse what the report server publishes; [`reject`] names every
//!    way in which that can fail, [`traceparent`] which trace contexts count, and [`mask`] keeps
//!    confidential data to itself.
//! 2. [`filter`] and [`access`] say whom an event concerns, [`history`] as of which revision and
//!    [`revisions`] what is missing of it; [`webhook`] is who asked, [`registration`] what
//!    a client sends to ask so.
//! 3. [`job`] is what the router hands to a worker, and [`share`] through which queue.
//! 4. [`notification`] renders the body of a POST, and [`request`] signs it as [`signature`] says;
//!    [`target`] says where it may go.
//! 5. [`endpoint`] and [`group`] say whether an endpoint may get a request now; [`answer`],
//!    [`outcome`] and [`retry`] decide what follows from the answer, and [`suspect`] what follows
//!    when workers end before there is one.
//!    [`pace`] says how fast a receiver and an owner want it ([`quota`] reads what headers say).
//! 6. [`explain`] says afterwards why a webhook was told of an event, or why not; [`test_event`] is
//!    how its owner finds out beforehand.
//! 7. [`password`] says which passwords local accounts may have, and [`spans`] which target spans
//!    have.

pub mod access;
pub mod answer;
mod backlog;
pub mod chain;
pub mod directory;
pub mod duration;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod filter;
pub mod group;
pub mod history;
pub mod hosts;
pub mod ids;
pub mod job;
pub mod json;
pub mod mask;
pub mod name;
pub mod notification;
pub mod outcome;
pub mod pace;
pub mod password;
pub mod quota;
pub mod rate_limit;
pub mod registration;
pub mod reject;
pub mod request;
pub mod resource;
pub mod retry;
pub mod revisions;
pub mod share;
pub mod signature;
pub mod spans;
pub mod suspect;
pub mod target;
pub mod test_event;
pub mod traceparent;
pub mod webhook;
