//! Notices a report server that posts nothing.
//!
//! Its base URL may be wrong or empty, and then no error shows anywhere. So the list of reports is
//! read from time to time. If it changes and no POST comes, the log warns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::chain::chain;
use fanfare_metrics::Bridge;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::api::Api;
use crate::clock::Clock;
use crate::outbox::{Outbox, Seen};
use crate::reading::resources;
use crate::routes::Routes;

/// What noticing needs.
pub(crate) struct Silence {
    pub(crate) api: Arc<Api>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) metrics: Arc<Bridge>,
    pub(crate) clock: Clock,
    /// The time of the newest POST that was accepted.
    pub(crate) newest: watch::Receiver<Option<DateTime<Utc>>>,
    /// How often the list is read. The report server posts within that time.
    pub(crate) every: Duration,
}

/// What is known of the list and of the POSTs.
#[derive(Debug, Default)]
struct Watch {
    listed: Option<(DateTime<Utc>, HashSet<String>)>,
    /// From this time on a POST is owed.
    owed_since: Option<DateTime<Utc>>,
    is_silent: bool,
}

impl Watch {
    /// Takes a list that was read at `now`. Returns whether the report server is silent: a POST has
    /// been owed since the list before, and the newest is older.
    fn note(
        &mut self,
        now: DateTime<Utc>,
        reports: HashSet<String>,
        newest: Option<DateTime<Utc>>,
    ) -> bool {
        self.owed_since = self.owed_since.filter(|since| newest.is_none_or(|at| at < *since));
        self.is_silent = self.owed_since.is_some();
        if let Some((before, known)) = &self.listed
            && self.owed_since.is_none()
            && *known != reports
            && newest.is_none_or(|at| at < *before)
        {
            self.owed_since = Some(*before);
        }
        self.listed = Some((now, reports));
        self.is_silent
    }
}

impl Silence {
    /// Watches the report server whose POSTs an outbox publishes.
    pub(crate) fn beside(
        outbox: &Outbox,
        newest: watch::Receiver<Option<DateTime<Utc>>>,
        every: Duration,
    ) -> Self {
        Self {
            api: Arc::clone(&outbox.api),
            routes: Arc::clone(&outbox.routes),
            seen: Arc::clone(&outbox.seen),
            metrics: Arc::clone(&outbox.metrics),
            clock: outbox.clock.clone(),
            newest,
            every,
        }
    }

    /// Watches for ever.
    pub(crate) async fn run(self) {
        let mut watch = Watch::default();
        loop {
            self.look(&mut watch).await;
            sleep(self.every).await;
        }
    }

    async fn look(&self, watch: &mut Watch) {
        let now = self.clock.now();
        let reports = match resources(&self.api, &self.routes.reports).await {
            Ok(reports) => reports,
            Err(error) => {
                tracing::debug!(error = chain(&error), "can't read the list of reports");
                return;
            }
        };
        let ids = reports.keys().cloned().collect();
        self.seen.learn(reports);
        let was_silent = watch.is_silent;
        let is_silent = watch.note(now, ids, *self.newest.borrow());
        self.metrics.silent(is_silent);
        if is_silent && !was_silent {
            tracing::warn!(
                "reports were added or removed at the report server, and no POST came: check \
                     its base URL (Configuration > Webhooks), and that it reaches FANFARE_BRIDGE_URL"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn reports(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_change_without_a_post_is_silence_from_the_next_list_on_until_one_comes() {
        let mut watch = Watch::default();
        assert!(!watch.note(at(10), reports(&["a"]), None));
        assert!(!watch.note(at(20), reports(&["a", "b"]), None));
        assert!(watch.note(at(30), reports(&["a", "b"]), Some(at(9))));
        assert!(!watch.note(at(40), reports(&["a", "b"]), Some(at(35))));
        // A POST that came before the list with the change.
        assert!(!watch.note(at(50), reports(&["a"]), Some(at(45))));
        assert!(!watch.note(at(60), reports(&["a"]), Some(at(45))));
    }
}
