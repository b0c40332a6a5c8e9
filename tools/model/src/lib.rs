//! A model of the protocol that carries one delivery from its plan to its end.
//!
//! Routers, workers, the broker, the ledger and the reconciler are a few enums in `state`. A step,
//! in `protocol` and `environment`, is what the real system does between two durable writes. After every step its
//! process may be killed, stopped for a while, or cut off from the broker, and the broker may lose all
//! messages. [`check`](check()) reaches every state and looks at the promises in each;
//! `docs/internals/delivery.md` describes the same protocol in words.
//!
//! The model assumes of time what the real timers give: a process that runs finishes what it began
//! before its lease expires and before the recheck of its job is due. One that loses its database
//! session begins another one within the grace. A process that is stopped, or cut off for longer than
//! that, breaks this, and costs at most one POST more. A database that loses a commit is not modelled.
//!
//! `stateright` is a library that checks models. It checks that something happens eventually only on
//! paths without cycles, and a job here can be requeued again and again. The promise is that the end
//! of the delivery can be reached from every state, which needs a short search backwards.

mod action;
mod bug;
mod check;
mod environment;
mod protocol;
mod state;
#[cfg(test)]
mod tests;
pub mod trace;

pub use action::Action;
pub use bug::Bug;
pub use check::{Failure, Promise, Report, check};
pub use protocol::Model;
pub use state::{Body, Message, Outcome, Process, State};
