//! The webhooks that this worker sends to, kept in memory.
//!
//! What is kept is trusted only while the database tells of every change; a change is seen as soon
//! as its notification arrives. That a replaced secret has come to its end is no change: a webhook
//! that has one is kept until then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::webhooks::WebhookRead;
use fanfare_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// More than this are not kept: about 100 MB at a kilobyte each.
const MOST: usize = 100_000;

/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

/// The kept webhooks.
pub(crate) struct Webhooks {
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    webhooks: HashMap<WebhookId, KeptWebhook>,
    /// Whether changes are heard of.
    listening: bool,
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
            end.run_until_cancelled(listener.listen()).await;
        });
        webhooks
    }

    /// Those of these webhooks that exist.
    pub(crate) async fn get(&self, ids: &[WebhookId]) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut missing = Vec::new();
        // Before the database reads its own clock: no secret is kept for longer than it says.
        let now = Instant::now();
        let changes = {
            let kept = self.lock();
            for &id in ids {
                let holds = |kept: &&KeptWebhook| kept.until.is_none_or(|until| until > now);
                match kept.webhooks.get(&id).filter(holds) {
                    Some(kept) => drop(found.webhooks.insert(id, Arc::clone(&kept.webhook))),
                    None => missing.push(id),
                }
            }
            kept.changes
        };
        if missing.is_empty() {
            return Ok(found);
        }
        let read = self.store.webhooks_read(&missing).await?;
        let mut kept = self.lock();
        let keep = kept.listening && kept.changes == changes;
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
            let ready = || self.forget(true, None);
            let ended = self.store.listen_webhooks(ready, |id| self.forget(true, Some(id))).await;
            self.forget(false, None);
            if let Err(error) = ended {
                tracing::debug!(error = error.chain(), "lost the news of changed webhooks");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Forgets one webhook or all.
    fn forget(&self, listening: bool, id: Option<WebhookId>) {
        let mut kept = self.lock();
        kept.listening = listening;
        kept.changes += 1;
        match id {
            Some(id) => drop(kept.webhooks.remove(&id)),
            None => kept.webhooks.clear(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
