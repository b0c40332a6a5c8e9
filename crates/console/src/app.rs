//! The state that all handlers share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_app::storage::StorageLimits;
use fanfare_app::{Context, Publisher};
use fanfare_metrics::Console as Metrics;
use fanfare_outbound::Client;
use fanfare_store::Store;

use crate::Config;
use crate::auth::passwords::{Accounts, Passwords};
use crate::auth::via::TrustedProxies;
use crate::oidc::provider::Provider;
use crate::publishing::state::Publishing;
use crate::site::Site;

/// The state of the console.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) background: Store,
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) longest_chain: Duration,
    pub(crate) settled: Duration,
    pub(crate) storage: StorageLimits,
    pub(crate) clock: fn() -> DateTime<Utc>,
    pub(crate) accounts: Accounts,
    pub(crate) site: Site,
    pub(crate) proxies: TrustedProxies,
    pub(crate) provider: Option<Provider>,
    pub(crate) publishing: Publishing,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let Config {
            store,
            background,
            broker,
            client,
            mask,
            mail_domains,
            longest_chain,
            settled,
            clock,
            webhooks_per_owner,
            storage,
            local_accounts,
            url,
            proxies,
            provider,
            metrics,
        } = config;
        let context = Context::new(store.clone(), Publisher::new(broker), webhooks_per_owner);
        let context = context.with_mask(mask).with_mail_domains(mail_domains);
        let passwords = Passwords::default();
        let accounts = Accounts { enabled: local_accounts, store: store.clone(), clock, passwords };
        Self {
            store,
            background,
            client,
            context,
            longest_chain,
            settled,
            storage,
            clock,
            accounts,
            site: Site::new(url),
            proxies: TrustedProxies::new(proxies),
            provider,
            publishing: Publishing::default(),
            metrics,
        }
    }
}
