//! What all handlers share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_outbound::Client;
use fanfare_store::Store;

use crate::Config;
use crate::auth::passwords::Passwords;
use crate::broker::Broker;

/// The state of the console.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) broker: Broker,
    pub(crate) longest_chain: Duration,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) passwords: Passwords,
}

/// The state as handlers get it.
pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let Config { store, broker, client, longest_chain, clock } = config;
        let broker = Broker::new(broker);
        Self { store, client, broker, longest_chain, clock, passwords: Passwords::default() }
    }
}
