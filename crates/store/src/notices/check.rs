//! Checking the conditions, and writing what was decided.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::notice::{
    About, Channel, Concerned, DirectoryFacts, Finding, Kind, Letters, Limits, Observed, Open,
    Stage, Step, WebhookState, decide, seen,
};
use fanfare_core::webhook::PauseReason;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

/// The most dead letters that are counted for a notice.
const COUNTED: i64 = 10_000;

impl Store {
    /// Checks the conditions, and writes the notices that follow, unless a router has checked them within
    /// `every`. `channels` are the channels of operators by which they are sent. Returns the number of
    /// new notices; `None` if it is not time to check.
    pub async fn notices_check(
        &self,
        limits: &Limits,
        every: Duration,
        channels: &[Channel],
    ) -> Result<Option<usize>, StoreError> {
        const TURN: &str = "-- notices_turn
            update notices_state set next_check_at = now() + $1::float8 * interval '1 second'
            where next_check_at <= now() returning now() as now";
        const OPEN: &str = "-- notices_open
            select id, about, webhook, stage, noticed_at, absent_since from notice_causes
            where resolved_at is null order by opened_at, id";
        let directory = self.directory_state().await?;
        let mut client = self.connection("check the conditions of notices").await?;
        let transaction = client.transaction().await?;
        let turn = transaction.query_opt(TURN, &[&every.as_secs_f64()]).await?;
        let Some(turn) = turn else { return Ok(None) };
        let now = turn.column("now")?;
        let rows = transaction.query(OPEN, &[]).await?;
        let open = rows.iter().map(cause).collect::<Result<Vec<_>, _>>()?;
        let gaps = directory.revisions.gaps.iter();
        let observed = Observed {
            at: now,
            webhooks: webhooks(&transaction).await?,
            letters: letters(&transaction, limits, now).await?,
            oldest_queued: oldest_queued(&transaction).await?,
            directory: DirectoryFacts {
                newest: directory.revisions.newest,
                hold: directory.hold,
                gaps: gaps.map(|gap| (gap.first, gap.last, gap.noticed)).collect(),
            },
        };
        let steps = decide(&open, seen(observed, limits), limits.quiet, now);
        let mut new = 0;
        for step in steps {
            new += usize::from(write(&transaction, step, channels).await?);
        }
        transaction.commit().await?;
        Ok(Some(new))
    }
}

fn cause(row: &Row) -> Result<Open, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "notice_causes", column };
    let webhook: Option<Uuid> = row.column("webhook")?;
    Ok(Open {
        id: row.column("id")?,
        about: About::parse(row.column("about")?).ok_or(inconsistent("about"))?,
        webhook: webhook.map(WebhookId),
        worst: Stage::parse(row.column("stage")?).ok_or(inconsistent("stage"))?,
        noticed_at: row.column("noticed_at")?,
        absent_since: row.column("absent_since")?,
    })
}

async fn webhooks(transaction: &Transaction<'_>) -> Result<Vec<WebhookState>, StoreError> {
    const SQL: &str = include_str!("../sql/notices_webhooks.sql");
    let rows = transaction.query(SQL, &[]).await?;
    let webhook = |row: &Row| {
        let reason: Option<&str> = row.column("paused_reason")?;
        Ok(WebhookState {
            concerned: Concerned {
                id: WebhookId(row.column("id")?),
                owner: row.column("owner")?,
                host: row.column("host")?,
            },
            paused: row.column("paused")?,
            paused_reason: reason.map(PauseReason::parse),
            failing_since: row.column("failing_since")?,
            secret_ends_at: row.column("secret_ends_at")?,
            deleted: row.column("deleted")?,
        })
    };
    rows.iter().map(webhook).collect()
}

async fn letters(
    transaction: &Transaction<'_>,
    limits: &Limits,
    now: DateTime<Utc>,
) -> Result<Letters, StoreError> {
    const SQL: &str = include_str!("../sql/notices_letters.sql");
    let quiet = limits.quiet.as_seconds_f64();
    let rows = transaction.query(SQL, &[&quiet, &(COUNTED + 1)]).await?;
    let mut letters = Letters { since: now, ..Letters::default() };
    let mut reasons = BTreeMap::new();
    for row in &rows {
        (letters.newest, letters.since) = (row.column("newest")?, row.column("since")?);
        if let Some(reason) = row.column("reason")? {
            reasons.insert(reason, row.column("count")?);
        }
    }
    letters.more = reasons.values().sum::<i64>() > COUNTED;
    letters.reasons = reasons;
    Ok(letters)
}

/// When the oldest job was queued that waits for a first attempt.
async fn oldest_queued(transaction: &Transaction<'_>) -> Result<Option<DateTime<Utc>>, StoreError> {
    // The condition is that of an index, whose first entry is the answer.
    const SQL: &str = "-- notices_oldest
        select min(queued_at) as oldest from events where look_at is not null and first_pending";
    transaction.query_one(SQL, &[]).await?.column("oldest")
}

/// Writes a step. Returns whether a notice follows from it.
async fn write(
    transaction: &Transaction<'_>,
    step: Step,
    channels: &[Channel],
) -> Result<bool, StoreError> {
    const UPDATE: &str = "-- notice_cause_update
        update notice_causes set stage = case when $3 then $2 else stage end, noticed_at = now()
        where id = $1";
    const PRESENT: &str = "-- notice_cause_present
        update notice_causes set absent_since = null where id = $1";
    const ABSENT: &str = "-- notice_cause_absent
        update notice_causes set absent_since = now() where id = $1";
    match step {
        Step::Open(finding) => {
            let id = open(transaction, &finding).await?;
            add(transaction, id, Kind::Open(finding.stage), &finding.facts.into(), channels)
                .await?;
            Ok(true)
        }
        Step::Update { cause, finding, is_worse } => {
            let stage = finding.stage.code();
            transaction.execute(UPDATE, &[&cause, &stage, &is_worse]).await?;
            add(transaction, cause, Kind::Open(finding.stage), &finding.facts.into(), channels)
                .await?;
            Ok(true)
        }
        Step::Present(cause) => transaction.execute(PRESENT, &[&cause]).await.map(|_| false),
        Step::Absent(cause) => transaction.execute(ABSENT, &[&cause]).await.map(|_| false),
        Step::Resolve { cause, notice } => resolve(transaction, cause, notice, channels).await,
    }
}

async fn open(transaction: &Transaction<'_>, finding: &Finding) -> Result<Uuid, StoreError> {
    const SQL: &str = "-- notice_cause_open
        insert into notice_causes (id, about, webhook, owner, owner_key, host, stage)
        values ($1, $2, $3, $4, $5, $6, $7)";
    let id = Uuid::now_v7();
    let webhook = finding.webhook.as_ref();
    let owner = webhook.map(|it| it.owner.as_str());
    let key = owner.and_then(Name::parse);
    let values: Values<'_> = &[
        /* id */ &id,
        /* about */ &finding.stage.about().code(),
        /* webhook */ &webhook.map(|it| it.id.0),
        /* owner */ &owner,
        /* owner_key */ &key.as_ref().map(Name::key),
        /* host */ &webhook.map(|it| it.host.as_str()),
        /* stage */ &finding.stage.code(),
    ];
    transaction.execute(SQL, values).await?;
    Ok(id)
}

async fn resolve(
    transaction: &Transaction<'_>,
    cause: Uuid,
    notice: bool,
    channels: &[Channel],
) -> Result<bool, StoreError> {
    const SQL: &str = "-- notice_cause_resolve
        update notice_causes set resolved_at = now() where id = $1 returning about, opened_at";
    let row = transaction.query_one(SQL, &[&cause]).await?;
    if notice {
        let about = About::parse(row.column("about")?)
            .ok_or(StoreError::Inconsistent { table: "notice_causes", column: "about" })?;
        let opened_at: DateTime<Utc> = row.column("opened_at")?;
        let facts = json!({ "since": fanfare_core::notice::time(opened_at) });
        add(transaction, cause, Kind::Resolved(about), &facts, channels).await?;
    }
    Ok(notice)
}

/// Adds a notice of a cause, to be sent by these channels, and by those that the owner chose.
async fn add(
    transaction: &Transaction<'_>,
    cause: Uuid,
    kind: Kind,
    facts: &Value,
    channels: &[Channel],
) -> Result<(), StoreError> {
    const SQL: &str = include_str!("../sql/notice_add.sql");
    let channels: Vec<&str> = channels.iter().map(|channel| channel.code()).collect();
    let values: Values<'_> = &[&cause, &Uuid::now_v7(), &kind.code(), facts, &channels];
    transaction.execute(SQL, values).await.map(drop)
}
