//! What the ledger says at the end of a run, and how much is open until then.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use fanfare_core::ids::{BatchKey, WebhookId};

use crate::clock::Time;
use crate::installation::Site;
use crate::publisher::event_id;

/// An event in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    pub(crate) received_at: Time,
    pub(crate) decided_revision: i64,
    /// The plan.
    pub(crate) webhooks: Vec<WebhookId>,
}

/// A row of a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) attempt: u32,
    pub(crate) state: String,
    /// Empty: none.
    pub(crate) reason: String,
    /// The revision that access was decided by; 0 where the plan decided.
    pub(crate) revision: i64,
}

/// A time in which a webhook was paused or deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) webhook: WebhookId,
    pub(crate) from: Time,
    pub(crate) to: Time,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// By the event's `id`.
    pub(crate) events: HashMap<String, StoredEvent>,
    /// The rows of each delivery, in their order.
    pub(crate) deliveries: HashMap<(BatchKey, WebhookId), Vec<Row>>,
    pub(crate) pauses: Vec<Pause>,
    /// When each revision of the directory came.
    pub(crate) applied: BTreeMap<i64, Time>,
}

impl Ledger {
    /// Reads it.
    pub(crate) async fn read(site: &Site) -> Result<Self> {
        let mut ledger = Self::default();
        let rows = site.sql(
            "select event_id, extract(epoch from received_at), decided_revision,
                    array_to_string(webhooks, ',') from events",
        );
        for row in rows.await?.lines() {
            let mut fields = Fields::of(row);
            let id = fields.text()?.to_owned();
            let (received_at, decided_revision) = (fields.parse()?, fields.parse()?);
            let ids = fields.text()?.split(',').filter(|it| !it.is_empty());
            let webhooks: Result<Vec<WebhookId>, _> = ids.map(WebhookId::from_str).collect();
            let stored = StoredEvent { received_at, decided_revision, webhooks: webhooks? };
            ledger.events.insert(id, stored);
        }
        let rows = site.sql(
            "select batch, webhook, attempt, state, coalesce(reason, ''), revision
             from attempts order by batch, webhook, entry",
        );
        for row in rows.await?.lines() {
            let mut fields = Fields::of(row);
            let key = (fields.parse()?, fields.parse()?);
            let attempt = fields.parse()?;
            let (state, reason) = (fields.text()?.to_owned(), fields.text()?.to_owned());
            let row = Row { attempt, state, reason, revision: fields.parse()? };
            ledger.deliveries.entry(key).or_default().push(row);
        }
        let rows = site.sql(
            "select webhook, extract(epoch from begin_at),
                    coalesce(extract(epoch from end_at)::text, 'inf')
             from webhook_versions where paused or deleted",
        );
        for row in rows.await?.lines() {
            let mut fields = Fields::of(row);
            let (webhook, from, to) = (fields.parse()?, fields.parse()?, fields.parse()?);
            ledger.pauses.push(Pause { webhook, from, to });
        }
        let rows = site.sql(
            "select begin_revision, min(extract(epoch from applied_at)) from directory_versions
             where kind = 'user' and applied_at is not null group by begin_revision",
        );
        for row in rows.await?.lines() {
            let mut fields = Fields::of(row);
            ledger.applied.insert(fields.parse()?, fields.parse()?);
        }
        Ok(ledger)
    }

    /// Whether a webhook was paused at a time, give or take some seconds.
    pub(crate) fn was_paused(&self, webhook: WebhookId, at: Time, margin: f64) -> bool {
        let is = |it: &&Pause| it.from - margin <= at && at <= it.to + margin;
        self.pauses.iter().filter(|it| it.webhook == webhook).any(|it| is(&it))
    }

    pub(crate) fn event(&self, number: usize) -> Option<&StoredEvent> {
        self.events.get(&event_id(number))
    }
}

/// How much is not settled yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    /// Events in the ledger.
    pub(crate) events: usize,
    /// Deliveries that are pending or retrying.
    pub(crate) deliveries: usize,
    /// Deliveries that are dead.
    pub(crate) dead: usize,
}

impl Open {
    /// Counts.
    pub(crate) async fn count(site: &Site) -> Result<Self> {
        let counted = site.sql(
            "select (select count(*) from events),
                    (select count(*) from
                        (select distinct e.batch, w.id from events e, unnest(e.webhooks) as w (id)
                         where e.look_at is not null) as planned
                     left join lateral
                        (select state from attempts a
                         where a.batch = planned.batch and a.webhook = planned.id
                         order by entry desc limit 1) as last on true
                     where coalesce(last.state, 'pending') in ('pending', 'retrying')),
                    (select count(*) from attempts where state = 'dead')",
        );
        let counted = counted.await?;
        let mut fields = Fields::of(&counted);
        Ok(Self { events: fields.parse()?, deliveries: fields.parse()?, dead: fields.parse()? })
    }
}

/// The columns of a row as text.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn of(row: &'a str) -> Self {
        Self(row.split('|'))
    }

    fn text(&mut self) -> Result<&'a str> {
        self.0.next().context("a row of the ledger has too few columns")
    }

    fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(&mut self) -> Result<T> {
        let text = self.text()?;
        text.parse().with_context(|| format!("reading {text:?} from the ledger"))
    }
}
