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

use crate::access::{grant, owner_state, scopes_of};
use crate::attempts::state;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;
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
                   e.source = $2 as is_test
            from events e cross join directory_state s
            where e.key = $1 and e.batch = $3 and e.received_at = $4";
        let Some((batch, received_at)) = self.event_locate(event).await? else { return Ok(None) };
        let client = self.connection("read the event's decision").await?;
        let row =
            client.query_opt(&Cached(SQL), &[&event.0, &SOURCE, &batch.0, &received_at]).await?;
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
        let (scopes, targets) = scopes_of(&decided.decision.resource);
        let one_more = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
        let client = self.connection("explain the event").await?;
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
                    /* batch */ &decided.batch.0,
                ],
            )
            .await
    }
}

/// Reads the columns of `explain_decided`.
fn decided(row: &Row) -> Result<Decided, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "events", column };
    let resource = Resource::parse(row.column("subject")?).map_err(|_| inconsistent("subject"))?;
    let action = Action::of_type(row.column("event_type")?);
    let decision = Decision {
        resource,
        action: action.ok_or_else(|| inconsistent("event_type"))?,
        revision: row.column("decided_revision")?,
        kept_from: row.column("oldest")?,
        is_test: row.column("is_test")?,
    };
    let batch = BatchKey(row.column("batch")?);
    Ok(Decided { batch, received_at: row.column("received_at")?, decision })
}

/// Reads the columns of `explain`.
fn explained(row: &Row, decided: &Decided) -> Result<WebhookExplained, StoreError> {
    let webhook = WebhookId(row.column("webhook")?);
    let facts = Facts {
        planned: row.column("planned")?,
        webhook: webhook_version(row)?,
        owner: owner_state(row)?,
        grant: grant(row)?,
        dropped: row.column("dropped")?,
    };
    Ok(WebhookExplained {
        webhook,
        owner: row.column("owner")?,
        explanation: explain(&decided.decision, &facts),
        grant: facts.grant_in_force().cloned(),
        delivery: facts.planned.then(|| sent(row, decided.batch, webhook)).transpose()?,
    })
}

fn webhook_version(row: &Row) -> Result<Option<WebhookVersion>, StoreError> {
    // All three are null when the webhook had no version at that time.
    let Some(filters) = row.column::<Option<Vec<String>>>("filters")? else { return Ok(None) };
    let filters = Filters::parse(&filters)
        .map_err(|_| StoreError::Inconsistent { table: "webhook_versions", column: "filters" })?;
    let (deleted, paused) = (row.column("webhook_deleted")?, row.column("paused")?);
    Ok(Some(WebhookVersion { deleted, paused, filters }))
}

fn sent(row: &Row, batch: BatchKey, webhook: WebhookId) -> Result<Sent, StoreError> {
    Ok(Sent {
        id: DeliveryId::of(batch, webhook),
        state: state(row)?,
        reason: row.column("reason")?,
        held_until: row.column("held_until")?,
    })
}
