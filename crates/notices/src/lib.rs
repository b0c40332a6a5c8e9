//! Notices: somebody is told what is wrong, once for each cause while it lasts.
//!
//! A [`round`] looks at the installation, which one process at a time does, and then tells what is due
//! in each [`Way`]. The ways work side by side, so that one that fails does not delay the others. A
//! notice that could not be told is tried again in a later round, with the same id.

mod exchange;
mod mail;
mod way;
mod webhook;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Session;
use fanfare_core::chain::chain;
use fanfare_core::notice::{Limits, Notice};
use fanfare_failpoints::failpoint;
use fanfare_store::notices::Due;
use fanfare_store::{Store, StoreError};
use tokio::time::{Instant, timeout_at};

pub use lettre::message::{Mailbox, Mailboxes};
pub use mail::{BadServer, Mail, Server, address, addresses};
pub use way::{NotTold, Way};
pub use webhook::Webhook;

/// The most notices that are told at a time.
const AT_ONCE: i64 = 8;
/// The longest time for telling them in one way. The store offers them again after half a minute.
const TELL_TIME: Duration = Duration::from_secs(20);

/// What is told, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// From which times on conditions are told.
    pub limits: Limits,
    /// The time between two looks at the installation.
    pub every: Duration,
    /// The operator's webhook.
    pub webhook: Option<Webhook>,
    /// The operators' mail.
    pub mail: Option<Mail>,
}

impl Config {
    /// The ways in which notices are told.
    #[must_use]
    pub fn ways(&self) -> Vec<Way> {
        let webhook = self.webhook.as_ref().map(|_| Way::Webhook);
        let mail = self.mail.as_ref().map(|_| Way::Mail);
        [Some(Way::Exchange), webhook, mail].into_iter().flatten().collect()
    }

    async fn tell(
        &self,
        way: Way,
        notices: &[&Notice],
        session: &Session,
        now: DateTime<Utc>,
    ) -> Result<(), NotTold> {
        match way {
            Way::Exchange => exchange::tell(session, notices).await,
            Way::Webhook => match &self.webhook {
                Some(webhook) => webhook.tell(notices, now).await,
                None => Ok(()),
            },
            Way::Mail => match &self.mail {
                Some(mail) => mail.tell(notices).await,
                None => Ok(()),
            },
        }
    }
}

/// What became of the notices of a way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Those that were told.
    pub told: usize,
    /// Those that could not be told, and are told later.
    pub failed: usize,
}

/// Looks at the installation if it is time, and tells what is due. `on_told` is called with what became
/// of the notices of a way.
///
/// # Errors
///
/// [`StoreError`]: the rest is told in the next round.
pub async fn round(
    config: &Config,
    store: &Store,
    session: &Session,
    on_told: impl Fn(Way, Told),
) -> Result<(), StoreError> {
    let ways: Vec<&str> = config.ways().into_iter().map(Way::code).collect();
    if let Some(new) = store.notices_look(&config.limits, config.every, &ways).await? {
        if new > 0 {
            tracing::info!(notices = new, "there is something to tell");
        }
        store.notices_sweep().await?;
    }
    // A way that has failed is not tried again in this round, so that a server that does not answer
    // costs one time-out, and not one for each notice.
    let mut failed = BTreeSet::new();
    loop {
        let due = store.notices_due(AT_ONCE).await?;
        let telling = Telling { config, store, session, due: &due, failed: &failed };
        let [exchange, webhook, mail] = Way::ALL;
        let told =
            tokio::try_join!(telling.way(exchange), telling.way(webhook), telling.way(mail))?;
        for (way, told) in Way::ALL.into_iter().zip([told.0, told.1, told.2]) {
            on_told(way, told);
            if told.failed > 0 {
                failed.insert(way);
            }
        }
        if i64::try_from(due.len()).unwrap_or(AT_ONCE) < AT_ONCE {
            return Ok(());
        }
    }
}

/// The telling of notices that are due.
struct Telling<'a> {
    config: &'a Config,
    store: &'a Store,
    session: &'a Session,
    due: &'a [Due],
    /// The ways that have failed in this round.
    failed: &'a BTreeSet<Way>,
}

impl Telling<'_> {
    /// Tells the notices that wait for a way, and notes what became of them.
    async fn way(&self, way: Way) -> Result<Told, StoreError> {
        let waits = |due: &&Due| due.waiting.iter().any(|it| it == way.code());
        let notices: Vec<&Notice> = self.due.iter().filter(waits).map(|due| &due.notice).collect();
        let mut told = Told::default();
        if self.failed.contains(&way) {
            return Ok(told);
        }
        let deadline = Instant::now() + TELL_TIME;
        for some in notices.chunks(way.at_a_time()) {
            let now = self.store.clock().now();
            let telling = self.config.tell(way, some, self.session, now);
            let result = match timeout_at(deadline, telling).await {
                Ok(result) => result,
                Err(_) => Err(NotTold::Late { seconds: TELL_TIME.as_secs() }),
            };
            if let Err(error) = result {
                let rest = notices.get(told.told..).unwrap_or_default();
                told.failed = rest.len();
                self.note_failed(way, rest, &error).await?;
                break;
            }
            failpoint!(NoticesTold);
            self.note_told(way, some).await?;
            told.told += some.len();
        }
        Ok(told)
    }

    async fn note_told(&self, way: Way, notices: &[&Notice]) -> Result<(), StoreError> {
        for notice in notices {
            let (id, says, way) = (notice.id.simple(), notice.says.code(), way.code());
            tracing::info!(notice.id = %id, notice.says = says, way, "told a notice");
            self.store.notice_told(notice.id, way).await?;
        }
        Ok(())
    }

    async fn note_failed(
        &self,
        way: Way,
        notices: &[&Notice],
        error: &NotTold,
    ) -> Result<(), StoreError> {
        let (way, error) = (way.code(), chain(error));
        let count = notices.len();
        tracing::warn!(way, notices = count, error, "failed to tell notices; they are told later");
        for notice in notices {
            self.store.notice_failed(notice.id, way, &error).await?;
        }
        Ok(())
    }
}
