//! The webhooks that this worker sends to, cached in memory.
//!
//! The cache is used only while the database proves, about twice a second, that every change was
//! received: see [`fanfare_store::listen`]. Without such a proof webhooks are read each time. The end
//! of a replaced secret is no change, so a webhook that has one is cached until that time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::holder::Holder;
use fanfare_store::listen::Heard;
use fanfare_store::webhooks::WebhookRead;
use fanfare_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most webhooks in the cache: about 100 MB at a kilobyte each.
const CAPACITY: usize = 100_000;

/// The pause before the connection for notifications is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a proof is relied on. Several proofs fall into this time.
pub(crate) const TRUSTED: Duration = Duration::from_millis(1500);

/// After this time without a proof, a warning says that webhooks are read each time.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// The cached webhooks.
pub(crate) struct WebhookCache {
    store: Store,
    kept: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    webhooks: HashMap<WebhookId, CachedWebhook>,
    /// Every change before this instant was received; `None` when that is not known.
    proven: Option<Instant>,
    /// Counts changes, so that a row that was read before a change is not cached after it.
    changes: u64,
}

struct CachedWebhook {
    webhook: Arc<Webhook>,
    /// When one of its secrets ends.
    until: Option<Instant>,
}

/// The result of a lookup.
#[derive(Default)]
pub(crate) struct Found {
    /// Those that exist.
    pub(crate) webhooks: HashMap<WebhookId, Arc<Webhook>>,
    /// Those that exist and can't be read, for example because a key is missing. Their deliveries wait
    /// until an operator has repaired that.
    pub(crate) unreadable: HashSet<WebhookId>,
}

impl WebhookCache {
    /// Begins to listen for changes; ends when `end` is cancelled.
    /// The connection that listens has the lock of `holder`.
    pub(crate) fn start(
        store: Store,
        holder: Arc<Holder>,
        end: CancellationToken,
        tracker: &TaskTracker,
    ) -> Arc<Self> {
        let webhooks = Arc::new(Self { store, kept: Mutex::default() });
        let listener = Arc::clone(&webhooks);
        tracker.spawn(async move {
            let both = async { tokio::join!(listener.listen(&holder), listener.report()) };
            end.run_until_cancelled(both).await;
        });
        webhooks
    }

    /// The webhooks with these ids that exist. The result includes every change that was committed more
    /// than [`TRUSTED`] before the call.
    pub(crate) async fn get(&self, ids: &[WebhookId]) -> Result<Found, StoreError> {
        // Taken before the database reads its clock, so that no secret is cached beyond its end.
        let now = Instant::now();
        let mut found = Found::default();
        let mut missing = Vec::new();
        let changes = {
            let kept = self.lock();
            let is_proven = kept.is_proven(now);
            for &id in ids {
                let holds = |kept: &&CachedWebhook| kept.until.is_none_or(|until| until > now);
                match (is_proven, kept.webhooks.get(&id).filter(holds)) {
                    (true, Some(kept)) => {
                        drop(found.webhooks.insert(id, Arc::clone(&kept.webhook)));
                    }
                    (false, _) | (_, None) => missing.push(id),
                }
            }
            kept.changes
        };
        if missing.is_empty() {
            return Ok(found);
        }
        // Boxed because it is rare: the futures of thousands of attempts stay small.
        let read = Box::pin(self.store.webhooks_read(&missing)).await?;
        let mut kept = self.lock();
        let keep = kept.changes == changes && kept.is_proven(Instant::now());
        if kept.webhooks.len() + read.readable.len() > CAPACITY {
            kept.webhooks.clear();
        }
        for (id, error) in read.unreadable {
            let error = error.chain();
            tracing::error!(webhook.id = %id, error, "a webhook can't be read; its deliveries wait");
            found.unreadable.insert(id);
        }
        for WebhookRead { webhook, holds } in read.readable {
            let webhook = Arc::new(webhook);
            if keep {
                let until = holds.map(|holds| now + holds);
                let webhook = Arc::clone(&webhook);
                kept.webhooks.insert(webhook.id, CachedWebhook { webhook, until });
            }
            found.webhooks.insert(webhook.id, webhook);
        }
        Ok(found)
    }

    async fn listen(&self, holder: &Holder) {
        loop {
            let ended = self.store.listen_webhooks(holder, |heard| self.lock().apply(heard)).await;
            self.lock().forget_all();
            if let Err(error) = ended {
                tracing::debug!(error = error.chain(), "stopped listening for changes to webhooks");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Warns when notifications of changes are missing for long, and logs when they are received again.
    async fn report(&self) {
        let mut since = Instant::now();
        let mut warned = false;
        loop {
            tokio::time::sleep(TRUSTED).await;
            let now = Instant::now();
            if self.lock().is_proven(now) {
                since = now;
                if std::mem::take(&mut warned) {
                    tracing::info!("notifications of changes to webhooks are received again");
                }
            } else if !warned && now.duration_since(since) > WARN_AFTER {
                warned = true;
                tracing::warn!(
                    "no notifications of changes to webhooks are received, as behind a transaction \
                     pooler: webhooks are read for every attempt, which is correct but slower"
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn apply(&mut self, heard: Heard) {
        match heard {
            Heard::Changed(id) => {
                self.changes += 1;
                self.webhooks.remove(&id);
            }
            Heard::AllUntil(proven) => {
                // After a gap the cache begins empty, whatever caused the gap.
                if !self.is_proven(proven) {
                    self.forget_all();
                }
                self.proven = Some(proven);
            }
        }
    }

    fn forget_all(&mut self) {
        self.changes += 1;
        self.webhooks.clear();
        self.proven = None;
    }

    /// Whether all changes until shortly before `now` were received.
    fn is_proven(&self, now: Instant) -> bool {
        self.proven.is_some_and(|proven| now.saturating_duration_since(proven) <= TRUSTED)
    }
}
