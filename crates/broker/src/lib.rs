//! The client of the message broker.
//!
//! A role process keeps one [`Session`] alive with [`supervise()`]. Opening a session connects and
//! declares the [`topology`]. With it the process receives the messages of a queue through a
//! [`Consumer`], publishes through a confirmed [`Publisher`], and delays messages with the
//! [delay ladder](ladder). Messages that were given up are in the dead letter queues;
//! [`dead_letters`] writes them there, and lists, replays and discards them for a person.
//!
//! Three promises hold everywhere in this crate:
//!
//! - A publish that answers `Ok` was confirmed by the broker and routed to a queue.
//! - A message is settled exactly once, by value. An acknowledgement that did not reach the broker is
//!   an error, because the message will be redelivered.
//! - Every failure ends the session soon. Nothing recovers without the caller's knowledge.

pub mod topology;

mod attributes;
mod config;
mod connect;
mod consumer;
pub mod dead_letters;
pub mod erasure;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod hosts;
pub mod job;
pub mod ladder;
mod letter;
mod message;
mod policies;
mod probe;
mod publisher;
mod queue_connection;
mod queue_health;
mod received;
mod session;
mod spans;
mod stored;
mod supervise;
mod wire;

pub use config::Config;
pub use consumer::{Consumer, Incoming, Settle, ack_all};
pub use error::{BrokerError, Cause, PublishError};
pub use ladder::{BackTo, Delay};
pub use message::{Destination, HeaderValue, Headers, Message, Properties};
pub use policies::{HarmfulPolicy, harmful_policies};
pub use probe::{Condition, Probe, is_missing, probe, repair};
pub use publisher::Publisher;
pub use queue_health::QueueHealth;
pub use session::{Depth, Session};
pub use supervise::{State, keep_consuming, supervise, supervise_opening};
pub use topology::{Fault, NOTICES_EXCHANGE, Queue};
