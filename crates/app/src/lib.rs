//! What a person can do with Fanfare.
//!
//! Each use case is one function of a [`Context`], of who asks for it and of an input. It checks
//! what must hold, does the work, and answers with a typed result or a typed error. The console's
//! API, its pages and the commands read the input and write the answer, and decide nothing.

//!
//! [`json`] is how what they answer looks in JSON, and [`clock`] how a time is written.

mod actor;
pub mod clock;
pub mod dead_letters;
pub mod deliveries;
pub mod events;
pub mod json;
mod publisher;
mod receiving;
pub mod request_preview;
pub mod resends;
pub mod test_events;
pub mod webhooks;

use fanfare_store::Store;
use tokio::sync::Notify;

pub use actor::{Actor, NotAdministrator};
pub use publisher::Publisher;
pub use receiving::NotReceiving;

/// What use cases work with.
pub struct Context {
    /// The database.
    pub store: Store,
    /// The broker.
    pub publisher: Publisher,
    /// The most webhooks that one owner may have.
    webhooks_per_owner: u32,
    test_events: test_events::Limiter,
    resend_begun: Notify,
}

impl Context {
    /// Connects to nothing yet. An owner may have at most `webhooks_per_owner` webhooks.
    #[must_use]
    pub fn new(store: Store, publisher: Publisher, webhooks_per_owner: u32) -> Self {
        Self {
            store,
            publisher,
            webhooks_per_owner,
            test_events: test_events::Limiter::new(),
            resend_begun: Notify::new(),
        }
    }

    /// Waits until a person has begun a resend in this process.
    pub async fn resend_begun(&self) {
        self.resend_begun.notified().await;
    }
}
