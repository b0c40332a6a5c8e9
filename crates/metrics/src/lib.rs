//! The metrics of Fanfare's processes.
//!
//! Each role has its families in one table, with name, unit and help: [`Router`], [`Worker`],
//! [`Console`], [`Bridge`], and [`Process`] and [`Broker`] for those that all processes have. A table registers
//! its families and is the handle to them; nothing is global. [`Registry`] renders the text that is
//! scraped.
//!
//! Label values come from closed sets, and all of them exist from the start, so that the rate of
//! something that never happened is zero and not unknown. No URL, user or id is a label value. An
//! attempt costs no more than additions to numbers.

mod bridge;
mod buckets;
mod console;
mod gauges;
mod labels;
mod process;
mod registry;
mod router;
mod worker;

pub use bridge::{Bridge, JournalState, PostResult, ReadFailure};
pub use console::{Console, Unconfirmed};
pub use gauges::SystemGauges;
pub use process::{Broker, Process};
pub use registry::{CONTENT_TYPE, Registry};
pub use router::Router;
pub use worker::{Deferral, InFlight, Worker};
