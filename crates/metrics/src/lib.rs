//! The metrics of Fanfare's processes.
//!
//! Each role has its families in one table, with name, unit and help: [`Router`] and [`Worker`],
//! and [`Process`] and [`Broker`] for all roles. A table registers its families and is the handle
//! to them; there are no globals. [`Registry`] writes the text that is scraped.
//!
//! Label values are from closed sets, and all of them exist from the start, so that the rate of an
//! event that never happened is zero and not unknown. No URL, user or id is ever a label value. An
//! attempt only adds to numbers.

mod buckets;
mod labels;
mod process;
mod registry;
mod router;
mod system_gauges;
mod worker;

pub use process::{Broker, Process};
pub use registry::{CONTENT_TYPE, Registry};
pub use router::Router;
pub use system_gauges::SystemGauges;
pub use worker::{Deferral, InFlight, Worker};
