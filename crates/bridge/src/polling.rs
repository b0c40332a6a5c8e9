//! The directory: read again and again, and what changed is published.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use fanfare_app::Publisher;
use fanfare_core::chain::chain;
use fanfare_core::filter::Filter;
use fanfare_core::json::push_string;
use fanfare_metrics::{Bridge, ReadFailure};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::api::Api;
use crate::changes::{
    Change, Existence, Held, Target, changes, missing, partial_snapshot, snapshot,
};
use crate::clock::Clock;
use crate::directory::{Directory, LeftOut, Refused, Rules};
use crate::outbox::{Seen, message, publish};
use crate::reading::{ReadError, read, resources};
use crate::routes::Routes;
use crate::state::{Pending, State, StateFile};

/// The largest snapshot, in bytes: a message may have 1 MiB.
const LARGEST_SNAPSHOT: usize = 1000 * 1000;
/// How often the whole directory is published, in case that a copy differs.
const SNAPSHOT_EVERY: Duration = Duration::from_hours(6);
/// The most documents that are published at once.
const AT_ONCE: usize = 500;
/// The pause after the broker did not take the documents.
const PAUSE: Duration = Duration::from_secs(1);

/// The type of a snapshot.
const SNAPSHOT: &str = "directory.snapshot";

/// Why the directory was not published.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the state of the bridge can't be written: {0}")]
    State(#[from] io::Error),
}

impl PollError {
    /// The cause for the metrics.
    fn failure(&self) -> ReadFailure {
        match self {
            Self::Read(error) => error.failure(),
            Self::Refused(_) => ReadFailure::Inconsistent,
            Self::State(_) => ReadFailure::Disk,
        }
    }
}

/// What polling needs.
pub(crate) struct Polling {
    pub(crate) api: Arc<Api>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) file: StateFile,
    pub(crate) state: State,
    pub(crate) rules: Rules,
    pub(crate) source: String,
    pub(crate) every: Duration,
    pub(crate) clock: Clock,
    pub(crate) revision: watch::Sender<Option<i64>>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) metrics: Arc<Bridge>,
    /// The permissions that the last reading left out.
    pub(crate) left_out: Vec<LeftOut>,
}

impl Polling {
    /// Reads and publishes for ever.
    pub(crate) async fn run(mut self) {
        let mut held = Held::default();
        let mut snapshot_at = Instant::now();
        let mut last_failure = String::new();
        self.publish_pending().await;
        loop {
            match self.poll(&mut held, &mut snapshot_at).await {
                Ok(()) => last_failure.clear(),
                Err(error) => {
                    self.metrics.not_read(error.failure());
                    let error = chain(&error);
                    // The same failure is logged as an error only once.
                    if error == last_failure {
                        tracing::debug!(error, "the directory still can't be read");
                    } else {
                        tracing::error!(
                            error,
                            "the directory was not read; the one that was published last stays"
                        );
                        last_failure = error;
                    }
                }
            }
            sleep(self.every.mul_f64(fastrand::f64().mul_add(0.2, 0.9))).await;
        }
    }

    async fn poll(&mut self, held: &mut Held, snapshot_at: &mut Instant) -> Result<(), PollError> {
        let (began, began_at) = (Instant::now(), self.clock.now());
        let reading = read(&self.api, &self.routes).await?;
        let (read, left_out) = reading.directory(&self.rules)?;
        self.warn_of(left_out);
        let targets = missing(&self.state.directory, &read);
        let existing = self.existing(&targets).await;
        let existence = |target: &Target| self.existence(target, &existing);
        let next = held.keep(&self.state.directory, &read, self.clock.now(), existence);
        self.metrics.read(began_at, held.len(), self.left_out.len());
        let documents = self.documents(&next, Instant::now() >= *snapshot_at);
        let (read_in, count) = (began.elapsed(), documents.len());
        tracing::debug!(%reading, ?read_in, documents = count, held = held.len(), "read the directory");
        let Some(last) = documents.last() else { return Ok(()) };
        let is_snapshot = documents.first().is_some_and(|it| it.event_type == SNAPSHOT);
        self.state.revision = last.revision;
        self.state.together = is_snapshot && count > 1;
        self.state.directory = next;
        self.state.pending = documents;
        self.file.write(&self.state)?;
        self.publish_pending().await;
        let revision = self.state.revision;
        if is_snapshot {
            *snapshot_at = Instant::now() + SNAPSHOT_EVERY;
            tracing::info!(revision, "published the directory: {reading}");
        } else {
            tracing::info!(revision, documents = count, "published changes of the directory");
        }
        Ok(())
    }

    /// Names the permissions that are left out, when they change.
    fn warn_of(&mut self, left_out: Vec<LeftOut>) {
        for it in left_out.iter().filter(|it| !self.left_out.contains(it)) {
            let LeftOut { holder, permission, why } = it;
            tracing::warn!(holder, permission, "a permission is left out: {why}");
        }
        self.left_out = left_out;
    }

    /// The documents that lead to the next directory: a snapshot, if one is due and can be; else those
    /// that changed.
    fn documents(&self, next: &Directory, is_snapshot_due: bool) -> Vec<Pending> {
        let now = self.clock.now().timestamp_millis();
        // The first revision, and one after the state was lost, is the time, so that it is above all
        // earlier ones. Fanfare refuses a snapshot whose revision is in the future.
        let revision = now.max(self.state.revision + 1);
        if is_snapshot_due && revision <= now {
            let whole = snapshot(next);
            if whole.len() <= LARGEST_SNAPSHOT {
                return numbered(revision, Some(whole), Vec::new());
            }
            if self.state.revision == 0
                && let Some((part, later)) = partial_snapshot(next, LARGEST_SNAPSHOT)
            {
                return numbered(revision, Some(part), later);
            }
        }
        let changed = numbered(self.state.revision + 1, None, changes(&self.state.directory, next));
        if self.state.revision == 0 {
            tracing::warn!(
                documents = changed.len(),
                "the directory is too large for one message: it is published in documents from \
                 revision 1, which Fanfare takes only if its directory is empty"
            );
        }
        changed
    }

    /// Publishes the documents that are in the state, until the broker has confirmed all of them.
    async fn publish_pending(&mut self) {
        while !self.state.pending.is_empty() {
            let some = self.state.pending.iter().take(AT_ONCE);
            let messages = some.map(|it| message(&it.event_type, self.event(it))).collect();
            if let Err(error) = publish(&self.publisher, messages).await {
                let error = chain(error.as_ref());
                tracing::warn!(error, "documents of the directory wait for the broker");
                sleep(PAUSE).await;
                continue;
            }
            let published = AT_ONCE.min(self.state.pending.len());
            self.state.pending.drain(..published);
            self.metrics.documents(published);
            if let Err(error) = self.file.write(&self.state) {
                // They are published again after the next start.
                tracing::error!(%error, "the state of the bridge can't be written");
            }
            self.tell_revision();
        }
        self.tell_revision();
    }

    fn tell_revision(&self) {
        let published = self.state.published();
        self.metrics.revision(published);
        self.revision.send_replace(published);
    }

    /// A document as a `CloudEvents` event.
    fn event(&self, document: &Pending) -> String {
        let Pending { event_type, revision, data } = document;
        let time = self.clock.now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut source = String::new();
        push_string(&mut source, &self.source);
        format!(
            r#"{{"specversion":"1.0","id":"directory-{revision}","source":{source},"type":"{event_type}","time":"{time}","accessrevision":"{revision}","datacontenttype":"application/json","data":{data}}}"#
        )
    }

    /// Asks for the resources of permissions that are missing. A kind that can't be read is left out:
    /// nothing is known of it.
    async fn existing(&self, targets: &BTreeSet<Target>) -> HashMap<String, HashSet<String>> {
        let mut existing = HashMap::new();
        let scopes: BTreeSet<&String> = targets.iter().map(|(scope, _)| scope).collect();
        for scope in scopes {
            let Some(list) = self.routes.of_scope(scope) else { continue };
            match resources(&self.api, list).await {
                Ok(found) => {
                    existing.insert(scope.clone(), found.into_keys().collect());
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(error, scope, "can't ask for the resources of permissions");
                }
            }
        }
        existing
    }

    fn existence(
        &self,
        (scope, id): &Target,
        existing: &HashMap<String, HashSet<String>>,
    ) -> Existence {
        if existing.get(scope).is_some_and(|ids| ids.contains(id)) {
            return Existence::Exists;
        }
        let filter = match scope.as_str() {
            "report" => Filter::Reports,
            "category" | "reports-in-category" => Filter::Categories,
            "connection" => Filter::Connections,
            "task" => Filter::Tasks,
            _ => Filter::Alerts,
        };
        if self.seen.is_deleted(filter, id) { Existence::Deleted } else { Existence::Unknown }
    }
}

/// Gives documents their revisions: first a snapshot, if there is one, then those that follow it.
fn numbered(first: i64, snapshot: Option<String>, changes: Vec<Change>) -> Vec<Pending> {
    let snapshot = snapshot.map(|data| (SNAPSHOT, data));
    let changes = changes.into_iter().map(|change| (change.event_type, change.data));
    let all = snapshot.into_iter().chain(changes).zip(first..);
    let pending = |((event_type, data), revision): ((&str, String), i64)| Pending {
        event_type: event_type.to_owned(),
        revision,
        data,
    };
    all.map(pending).collect()
}
