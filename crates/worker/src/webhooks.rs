//! The webhooks that this worker sends to, kept in memory.
//!
//! What is kept is trusted only while the database tells of every change; a change is seen as soon
//! as its notification arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
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
    webhooks: HashMap<WebhookId, Arc<Webhook>>,
    /// Whether changes are heard of.
    listening: bool,
    /// Counts changes, so that a row read before one is not kept after it.
    changes: u64,
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
    pub(crate) async fn get(
        &self,
        ids: &[WebhookId],
    ) -> Result<HashMap<WebhookId, Arc<Webhook>>, StoreError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        let changes = {
            let kept = self.lock();
            for &id in ids {
                match kept.webhooks.get(&id) {
                    Some(webhook) => drop(found.insert(id, Arc::clone(webhook))),
                    None => missing.push(id),
                }
            }
            kept.changes
        };
        if missing.is_empty() {
            return Ok(found);
        }
        let read = self.store.webhooks_get(&missing).await?;
        let mut kept = self.lock();
        let keep = kept.listening && kept.changes == changes;
        if kept.webhooks.len() + read.len() > MOST {
            kept.webhooks.clear();
        }
        for webhook in read.into_iter().map(Arc::new) {
            if keep {
                kept.webhooks.insert(webhook.id, Arc::clone(&webhook));
            }
            found.insert(webhook.id, webhook);
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
