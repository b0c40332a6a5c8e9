//! What all handlers share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fanfare_outbound::Client;
use fanfare_store::Store;

use crate::Config;
use crate::auth::passwords::Passwords;

/// The state of the console.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) passwords: Passwords,
}

/// The state as handlers get it.
pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let Config { store, client, clock } = config;
        Self { store, client, clock, passwords: Passwords::default() }
    }
}
