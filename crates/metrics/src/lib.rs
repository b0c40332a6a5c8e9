//! What Fanfare's processes count and measure.
//!
//! Each role has its families in one table, with name, unit and help: [`Router`], [`Worker`], and
//! [`Process`] and [`Broker`] for what all of them tell. A table registers its families and is the handle to
//! them; nothing is global. [`Registry`] makes the text that is scraped.
//!
//! Label values are those of closed sets, and all of them are there from the start, so that a rate
//! of something that never happened is zero and not unknown. No URL, user or id is ever one. On the
//! way of an attempt nothing is done but adding to numbers.

mod buckets;
mod labels;
mod process;
mod registry;
mod router;
mod standing;
mod worker;

pub use process::{Broker, Process};
pub use registry::{CONTENT_TYPE, Registry};
pub use router::Router;
pub use standing::Standing;
pub use worker::{Deferral, InFlight, Worker};
