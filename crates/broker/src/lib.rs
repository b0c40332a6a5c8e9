//! Everything that Fanfare says to its message broker.
//!
//! The story: a role process keeps one [`Session`] alive with [`supervise()`]. Opening a session
//! connects and declares the [`topology`]; with it the process takes messages from a queue through
//! a [`Consumer`], publishes through a confirmed [`Publisher`], and sends what must wait down the
//! [delay ladder](ladder). Messages that nobody can take further lie in the dead letter queues;
//! [`dead_letters`] writes them there and walks over them for a person.
//!
//! Three promises hold everywhere in this crate:
//!
//! - A publish that answers `Ok` was confirmed by the broker and routed to a queue.
//! - A message is settled exactly once, by value; an acknowledgement that did not reach the broker
//!   is an error, because the message will come again.
//! - Every failure ends the session within moments. Nothing recovers behind the caller's back.

pub mod topology;

mod attributes;
mod config;
mod connect;
mod consumer;
pub mod dead_letters;
mod error;
pub mod job;
pub mod ladder;
mod message;
mod place;
mod policies;
mod probe;
mod publisher;
mod queue_connection;
mod queue_health;
mod received;
mod session;
mod spans;
mod supervise;
mod wire;

pub use config::Config;
pub use consumer::{Consumer, Incoming, Settle, ack_all};
pub use error::{BrokerError, Cause, PublishError};
pub use ladder::{BackTo, Delay};
pub use message::{Destination, HeaderValue, Headers, Message, Properties};
pub use policies::{HarmfulPolicy, harmful_policies};
pub use probe::{Condition, Probe, probe, repair};
pub use publisher::Publisher;
pub use queue_health::QueueHealth;
pub use session::{Depth, Session};
pub use supervise::{State, keep_consuming, supervise};
pub use topology::{Fault, Queue};
