//! What a person can do with Fanfare.
//!
//! Each use case is one function of a [`Context`], of who asks for it and of an input. It checks
//! what must hold, does the work, and answers with a typed result or a typed error. The console's
//! API, its pages and the commands read the input and write the answer, and decide nothing.

mod actor;
pub mod dead_letters;
pub mod deliveries;
mod publisher;
mod receiving;
pub mod resends;

use fanfare_store::Store;
use tokio::sync::Notify;

pub use actor::Actor;
pub use publisher::Publisher;
pub use receiving::NotReceiving;

/// What use cases work with.
pub struct Context {
    /// The database.
    pub store: Store,
    /// The broker.
    pub publisher: Publisher,
    resend_begun: Notify,
}

impl Context {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(store: Store, publisher: Publisher) -> Self {
        Self { store, publisher, resend_begun: Notify::new() }
    }

    /// Waits until a person has begun a resend in this process.
    pub async fn resend_begun(&self) {
        self.resend_begun.notified().await;
    }
}
