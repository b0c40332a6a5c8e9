//! Why webhooks were told of an event, or why not: the facts, gathered as of the decision.

use chrono::{DateTime, Utc};
use fanfare_core::access::{Resource, administrator_key};
use fanfare_core::explain::{Decision, Explanation, Facts, Grant, WebhookThen, explain};
use fanfare_core::filter::{Action, Filters};
use fanfare_core::ids::{BatchKey, DeliveryId, EventKey, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_core::test_event::SOURCE;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::access::{grant, owner_state};
use crate::error::StoreError;
use crate::events;
use crate::pool::Store;

/// Which webhooks to explain; `None` does not ask.
#[derive(Debug, Clone)]
pub struct ExplainFilter {
    /// Just this one.
    pub webhook: Option<WebhookId>,
    /// This owner's.
    pub owner: Option<Name>,
    /// At most so many, the oldest first.
    pub limit: usize,
}

/// One event explained.
#[derive(Debug, Clone)]
pub struct Explained {
    /// What was decided.
    pub decision: Decision,
    /// What became of each webhook.
    pub webhooks: Vec<WebhookExplained>,
    /// Whether the limit left webhooks out.
    pub cut: bool,
}

/// Why a webhook was told of an event, or why not.
#[derive(Debug, Clone)]
pub struct WebhookExplained {
    /// The webhook.
    pub webhook: WebhookId,
    /// Its owner at the decision.
    pub owner: String,
    /// The verdict and its reasons.
    pub explanation: Explanation,
    /// What let the owner read, if they were.
    pub grant: Option<Grant>,
    /// What was sent or is on its way, if it was to be.
    pub delivery: Option<Sent>,
}

/// The delivery of an event to a webhook of its plan.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The Id that the receiver sees.
    pub id: DeliveryId,
    /// Where it stands.
    pub state: State,
    /// Why it was dropped or is dead.
    pub reason: Option<String>,
    /// Until when it waits because its receiver asked for that.
    pub held_until: Option<DateTime<Utc>>,
}

/// What an event's row says of its decision.
struct Decided {
    batch: BatchKey,
    received_at: DateTime<Utc>,
    decision: Decision,
}

impl Store {
    /// Explains an event for all webhooks that there ever were, the oldest first; `None` when
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

    /// One row a webhook, and one more than the limit when there are more.
    async fn facts(
        &self,
        event: EventKey,
        decided: &Decided,
        filter: &ExplainFilter,
    ) -> Result<Vec<Row>, StoreError> {
        // Access is asked of the other end: whom the resource's few scopes name, and which of the
        // owners these are or have as a role.
        const SQL: &str = "-- explain
            with page as (
                select w.id, w.owner, w.owner_key, w.created_at
                from webhooks w
                where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
                order by w.created_at, w.id
                limit $3
            ), considered as (
                select p.*, coalesce(v.owner_key, p.owner_key) as owner_then,
                       v.deleted, v.paused, v.filters
                from page p
                left join lateral (
                    select * from webhook_versions v
                    where v.webhook = p.id and v.begin_at <= $5
                      and (v.end_at is null or v.end_at > $5)
                    order by v.begin_at desc limit 1
                ) v on true
            ), owner as (
                select u.id, u.name_key, u.enabled, u.deleted, u.begin_revision
                from (select distinct owner_then from considered) o
                join directory_versions u on u.kind = 'user' and u.name_key = o.owner_then
                    and u.begin_revision <= $6
                    and (u.end_revision is null or u.end_revision > $6)
            ), granted as (
                select v.id, v.kind, v.name, v.name_key, v.begin_revision, q.rank, g.scope, g.target
                from unnest($7::text[], $8::text[]) with ordinality as q(scope, target, rank)
                join directory_grants g on g.scope = q.scope and g.target = q.target
                join directory_versions v on v.id = g.version_id and v.begin_revision <= $6
                    and (v.end_revision is null or v.end_revision > $6)
            ), member as (
                select o.id, o.begin_revision, m.role_key
                from owner o join directory_members m on m.version_id = o.id
            ), way as (
                select id as user_id, 0 as precedence, rank, scope, target, null::text as role,
                       begin_revision as since
                from granted where kind = 'user'
                union all
                select m.id, 1, g.rank, g.scope, g.target, g.name,
                       greatest(g.begin_revision, m.begin_revision)
                from member m join granted g on g.kind = 'role' and g.name_key = m.role_key
                union all
                select id, 2, 0, null, null, null, begin_revision from member where role_key = $9
            ), decides as (
                select distinct on (user_id) * from way order by user_id, precedence, rank, role
            ), plan as (
                select p.webhook, e.batch
                from events e cross join unnest(e.webhooks) as p(webhook) where e.key = $4
            )
            select d.precedence, d.scope, d.target, d.role, d.since,
                   c.id, case when c.owner_then = c.owner_key then c.owner else c.owner_then end,
                   c.deleted, c.paused, c.filters, o.enabled, o.deleted,
                   p.webhook is not null, a.state, a.reason,
                   case when a.state = 'dropped' then a.detail end,
                   case when p.webhook is not null and h.hold_until > now()
                         and coalesce(a.state, 'pending') in ('pending', 'retrying')
                        then h.hold_until end
            from considered c
            left join webhook_paces h on h.webhook = c.id
            left join owner o on o.name_key = c.owner_then
            left join decides d on d.user_id = o.id
            left join plan p on p.webhook = c.id
            left join lateral (select a.state, a.reason, a.detail from attempts a
                               where a.batch = p.batch and a.webhook = p.webhook
                               order by a.entry desc limit 1) a on true
            order by c.created_at, c.id";
        let doing = "explain the event";
        let scopes = decided.decision.resource.read_scopes();
        let (scopes, targets): (Vec<_>, Vec<_>) =
            scopes.into_iter().map(|(scope, target)| (scope.name(), target)).unzip();
        let one_more = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
        let client = self.client().await?;
        client
            .query(
                SQL,
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
    let action = text(2)?.split_once('.').and_then(|(_, action)| Action::parse(action));
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
    let then = webhook_then(row)?;
    let dropped = row.try_get(15).map_err(StoreError::at(doing))?;
    let facts = Facts { planned, webhook: then, owner: state, grant: grant(row, 0)?, dropped };
    Ok(WebhookExplained {
        webhook,
        owner,
        explanation: explain(&decided.decision, &facts),
        grant: facts.grant_in_force().cloned(),
        delivery: planned.then(|| sent(row, decided.batch, webhook)).transpose()?,
    })
}

fn webhook_then(row: &Row) -> Result<Option<WebhookThen>, StoreError> {
    let read = || Ok((row.try_get(7)?, row.try_get(8)?, row.try_get(9)?));
    let (deleted, paused, filters): (Option<bool>, Option<bool>, Option<Vec<String>>) =
        read().map_err(StoreError::at("read a version of a webhook"))?;
    let (Some(deleted), Some(paused), Some(filters)) = (deleted, paused, filters) else {
        return Ok(None);
    };
    let filters = Filters::parse(&filters)
        .map_err(|_| StoreError::Inconsistent { table: "webhook_versions", column: "filters" })?;
    Ok(Some(WebhookThen { deleted, paused, filters }))
}

fn sent(row: &Row, batch: BatchKey, webhook: WebhookId) -> Result<Sent, StoreError> {
    let read = || Ok((row.try_get::<_, Option<&str>>(13)?, row.try_get(14)?, row.try_get(16)?));
    let (state, reason, held_until) =
        read().map_err(StoreError::at("read where a delivery stands"))?;
    let state = state.map_or(Ok(State::Pending), events::state)?;
    Ok(Sent { id: DeliveryId::of(batch, webhook), state, reason, held_until })
}
