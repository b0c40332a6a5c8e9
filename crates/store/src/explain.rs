//! Explanations: for each webhook, why it got an event or did not, by the facts as of the decision.

mod statement;

use chrono::{DateTime, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::explain::{Decision, Explanation, Facts, Grant, WebhookVersion, explain};
use fanfare_core::filter::{Action, Filters};
use fanfare_core::ids::{BatchKey, DeliveryId, EventKey, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_core::resource::Resource;
use fanfare_core::test_event::SOURCE;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::access::{grant, owner_state, scopes_of};
use crate::error::StoreError;
use crate::events;
use crate::pool::Store;
use statement::FACTS;

/// The webhooks to explain; `None` sets no condition.
#[derive(Debug, Clone)]
pub struct ExplainFilter {
    pub webhook: Option<WebhookId>,
    pub owner: Option<Name>,
    /// The most webhooks to explain, the oldest first.
    pub limit: usize,
}

/// The explanation of an event.
#[derive(Debug, Clone)]
pub struct Explained {
    pub decision: Decision,
    pub webhooks: Vec<WebhookExplained>,
    /// Whether the limit left webhooks out.
    pub cut: bool,
}

/// The explanation why a webhook got an event or did not.
#[derive(Debug, Clone)]
pub struct WebhookExplained {
    pub webhook: WebhookId,
    /// The webhook's owner at the time of the decision.
    pub owner: String,
    /// The verdict and its reasons.
    pub explanation: Explanation,
    /// The grant by which the owner could read the resource.
    pub grant: Option<Grant>,
    /// The delivery, if the plan has one for this webhook.
    pub delivery: Option<Sent>,
}

/// The delivery of an event to a webhook of its plan.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The Id that the receiver sees.
    pub id: DeliveryId,
    pub state: State,
    /// The code of the reason for which it was dropped or is dead.
    pub reason: Option<String>,
    /// The time until which it waits at its receiver's request.
    pub held_until: Option<DateTime<Utc>>,
}

/// The decision in an event's row.
struct Decided {
    batch: BatchKey,
    received_at: DateTime<Utc>,
    decision: Decision,
}

impl Store {
    /// Explains an event for all webhooks, including deleted ones, the oldest first; `None` when
    /// there is no such event.
    pub async fn explain(
        &self,
        event: EventKey,
        filter: &ExplainFilter,
    ) -> Result<Option<Explained>, StoreError> {
        let Some(decided) = self.decided(event).await? else { return Ok(None) };
        let mut rows = self.facts(event, &decided, filter).await?;
        let cut = rows.len() > filter.limit;
        rows.truncate(filter.limit);
        let one = |row: &Row| explained(row, &decided);
        let webhooks = rows.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Some(Explained { decision: decided.decision, webhooks, cut }))
    }

    async fn decided(&self, event: EventKey) -> Result<Option<Decided>, StoreError> {
        const SQL: &str = "-- explain_decided
            select e.batch, e.received_at, e.event_type, e.subject, e.decided_revision, s.oldest,
                   e.source = $2
            from events e cross join directory_state s where e.key = $1";
        let doing = "read the event's decision";
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let row = client
            .query_opt(&statement, &[&event.0, &SOURCE])
            .await
            .map_err(StoreError::at(doing))?;
        row.as_ref().map(decided).transpose()
    }

    /// Reads one row for each webhook. One row more than the limit means that there are more
    /// webhooks.
    async fn facts(
        &self,
        event: EventKey,
        decided: &Decided,
        filter: &ExplainFilter,
    ) -> Result<Vec<Row>, StoreError> {
        let doing = "explain the event";
        let (scopes, targets) = scopes_of(&decided.decision.resource);
        let one_more = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
        let client = self.client().await?;
        client
            .query(
                FACTS,
                &[
                    /* webhook */ &filter.webhook.map(|id| id.0),
                    /* owner_key */ &filter.owner.as_ref().map(Name::key),
                    /* limit */ &one_more,
                    /* key */ &event.0,
                    /* received_at */ &decided.received_at,
                    /* revision */ &decided.decision.revision,
                    /* scope */ &scopes,
                    /* target */ &targets,
                    /* administrator */ &administrator_key(),
                ],
            )
            .await
            .map_err(StoreError::at(doing))
    }
}

/// Reads the columns of `explain_decided`.
fn decided(row: &Row) -> Result<Decided, StoreError> {
    let doing = "read the event's decision";
    let inconsistent = |column| StoreError::Inconsistent { table: "events", column };
    let text = |column: usize| row.try_get::<_, &str>(column).map_err(StoreError::at(doing));
    let action = Action::of_type(text(2)?);
    let resource = Resource::parse(text(3)?).map_err(|_| inconsistent("subject"))?;
    let action = action.ok_or_else(|| inconsistent("event_type"))?;
    let read = || {
        let (revision, kept_from) = (row.try_get(4)?, row.try_get(5)?);
        let is_test = row.try_get(6)?;
        let decision = Decision { resource, action, revision, kept_from, is_test };
        Ok(Decided { batch: BatchKey(row.try_get(0)?), received_at: row.try_get(1)?, decision })
    };
    read().map_err(StoreError::at(doing))
}

/// Reads the columns of `explain`, of which the first five are the grant's.
fn explained(row: &Row, decided: &Decided) -> Result<WebhookExplained, StoreError> {
    let doing = "read the facts of a webhook";
    let read = || {
        let webhook: Uuid = row.try_get(5)?;
        let state = owner_state(row.try_get(10)?, row.try_get(11)?);
        Ok((WebhookId(webhook), row.try_get(6)?, state, row.try_get(12)?))
    };
    let (webhook, owner, state, planned) = read().map_err(StoreError::at(doing))?;
    let version = webhook_version(row)?;
    let dropped = row.try_get(15).map_err(StoreError::at(doing))?;
    let facts = Facts { planned, webhook: version, owner: state, grant: grant(row, 0)?, dropped };
    Ok(WebhookExplained {
        webhook,
        owner,
        explanation: explain(&decided.decision, &facts),
        grant: facts.grant_in_force().cloned(),
        delivery: planned.then(|| sent(row, decided.batch, webhook)).transpose()?,
    })
}

fn webhook_version(row: &Row) -> Result<Option<WebhookVersion>, StoreError> {
    let read = || Ok((row.try_get(7)?, row.try_get(8)?, row.try_get(9)?));
    let (deleted, paused, filters): (Option<bool>, Option<bool>, Option<Vec<String>>) =
        read().map_err(StoreError::at("read a version of a webhook"))?;
    let (Some(deleted), Some(paused), Some(filters)) = (deleted, paused, filters) else {
        return Ok(None);
    };
    let filters = Filters::parse(&filters)
        .map_err(|_| StoreError::Inconsistent { table: "webhook_versions", column: "filters" })?;
    Ok(Some(WebhookVersion { deleted, paused, filters }))
}

fn sent(row: &Row, batch: BatchKey, webhook: WebhookId) -> Result<Sent, StoreError> {
    let read = || Ok((row.try_get::<_, Option<&str>>(13)?, row.try_get(14)?, row.try_get(16)?));
    let (state, reason, held_until) =
        read().map_err(StoreError::at("read the state of a delivery"))?;
    let state = state.map_or(Ok(State::Pending), events::state)?;
    Ok(Sent { id: DeliveryId::of(batch, webhook), state, reason, held_until })
}
