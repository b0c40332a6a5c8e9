//! What all handlers share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_app::{Context, Publisher};
use fanfare_outbound::Client;
use fanfare_store::Store;

use crate::Config;
use crate::auth::passwords::Passwords;
use crate::oidc::provider::Provider;
use crate::site::Site;
use crate::test_events::Sending;

/// The state of the console.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) background: Store,
    pub(crate) client: Client,
    /// What the use cases work with.
    pub(crate) context: Context,
    pub(crate) longest_chain: Duration,
    pub(crate) settled: Duration,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) passwords: Passwords,
    pub(crate) test_events: Sending,
    /// The most webhooks of one owner.
    pub(crate) webhooks_per_owner: u32,
    /// Whether people with accounts here may sign in.
    pub(crate) local_accounts: bool,
    pub(crate) site: Site,
    pub(crate) provider: Option<Provider>,
}

/// The state as handlers get it.
pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let Config {
            store,
            background,
            broker,
            client,
            longest_chain,
            settled,
            clock,
            webhooks_per_owner,
            local_accounts,
            url,
            provider,
        } = config;
        let context = Context::new(store.clone(), Publisher::new(broker));
        Self {
            store,
            background,
            client,
            context,
            longest_chain,
            settled,
            clock,
            passwords: Passwords::default(),
            test_events: Sending::default(),
            webhooks_per_owner,
            local_accounts,
            site: Site::new(url),
            provider,
        }
    }
}
