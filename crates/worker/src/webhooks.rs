//! The webhooks that this worker sends to, kept in memory.
//!
//! What is kept is used only while the database proves, about twice a second, that every change is
//! heard of: see [`fanfare_store::listen`]. Without such a proof webhooks are read each time. That a
//! replaced secret has come to its end is no change: a webhook that has one is kept until then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::listen::Heard;
use fanfare_store::webhooks::WebhookRead;
use fanfare_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// More than this are not kept: about 100 MB at a kilobyte each.
const MOST: usize = 100_000;

/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long what was known to be right is relied upon. Several proofs fall into this time.
pub(crate) const TRUSTED: Duration = Duration::from_millis(1500);

/// Without a proof for so long, an operator is told that webhooks are read each time.
const TOLD_AFTER: Duration = Duration::from_secs(15);

/// The kept webhooks.
pub(crate) struct Webhooks {
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    webhooks: HashMap<WebhookId, KeptWebhook>,
    /// Every change before this instant has been heard of; `None` when that is not known.
    proven: Option<Instant>,
    /// Counts changes, so that a row read before one is not kept after it.
    changes: u64,
}

struct KeptWebhook {
    webhook: Arc<Webhook>,
    /// When one of its secrets comes to its end.
    until: Option<Instant>,
}

/// Webhooks that were asked for.
#[derive(Default)]
pub(crate) struct Found {
    /// Those that exist.
    pub(crate) webhooks: HashMap<WebhookId, Arc<Webhook>>,
    /// Those that exist but can't be read, for example because a key is missing: an operator has to
    /// mend that, and what they are owed waits.
    pub(crate) unreadable: HashSet<WebhookId>,
}

impl Webhooks {
    /// Begins to listen for changes; ends with `end`.
    pub(crate) fn start(store: Store, end: CancellationToken, tracker: &TaskTracker) -> Arc<Self> {
        let webhooks = Arc::new(Self { store, kept: Mutex::default() });
        let listener = Arc::clone(&webhooks);
        tracker.spawn(async move {
            let both = async { tokio::join!(listener.listen(), listener.tell()) };
            end.run_until_cancelled(both).await;
        });
        webhooks
    }

    /// Those of these webhooks that exist. Every change that was committed more than [`TRUSTED`]
    /// before the call is seen.
    pub(crate) async fn get(&self, ids: &[WebhookId]) -> Result<Found, StoreError> {
        // Before the database reads its own clock: no secret is kept for longer than it says.
        let now = Instant::now();
        let mut found = Found::default();
        let mut missing = Vec::new();
        let changes = {
            let kept = self.lock();
            let is_proven = kept.is_proven(now);
            for &id in ids {
                let holds = |kept: &&KeptWebhook| kept.until.is_none_or(|until| until > now);
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
        let read = self.store.webhooks_read(&missing).await?;
        let mut kept = self.lock();
        let keep = kept.changes == changes && kept.is_proven(Instant::now());
        if kept.webhooks.len() + read.readable.len() > MOST {
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
                kept.webhooks.insert(webhook.id, KeptWebhook { webhook, until });
            }
            found.webhooks.insert(webhook.id, webhook);
        }
        Ok(found)
    }

    async fn listen(&self) {
        loop {
            let ended = self.store.listen_webhooks(|heard| self.lock().hear(heard)).await;
            self.lock().forget_all();
            if let Err(error) = ended {
                tracing::debug!(error = error.chain(), "lost the news of changed webhooks");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells an operator when changes are not heard of for long, and when they are again.
    async fn tell(&self) {
        let mut since = Instant::now();
        let mut told = false;
        loop {
            tokio::time::sleep(TRUSTED).await;
            let now = Instant::now();
            if self.lock().is_proven(now) {
                since = now;
                if std::mem::take(&mut told) {
                    tracing::info!("changes to webhooks are heard of again");
                }
            } else if !told && now.duration_since(since) > TOLD_AFTER {
                told = true;
                tracing::warn!(
                    "changes to webhooks are not heard of, as behind a pooler of transactions: \
                     webhooks are read for every attempt, which is right but slower"
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Changed(id) => {
                self.changes += 1;
                self.webhooks.remove(&id);
            }
            Heard::AllUntil(proven) => {
                // After a silence it begins with nothing, for whatever caused that.
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

    /// Whether all changes were heard of until shortly before `now`.
    fn is_proven(&self, now: Instant) -> bool {
        self.proven.is_some_and(|proven| now.saturating_duration_since(proven) <= TRUSTED)
    }
}
