//! Pages of webhooks, which can be searched, and sorted by any column.
//!
//! Each page reads all webhooks of the list, because any word can be searched for and the number of
//! matches is shown. Webhooks are few in comparison with deliveries, and only their keys are
//! sorted; the rest is read for the page alone. A page begins at the key where the last one ended,
//! so that webhooks that are added or deleted meanwhile do not move others.

use std::collections::HashMap;

use chrono::{DateTime, TimeZone as _, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::Webhook;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The columns by which webhooks can be sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The owner.
    User,
    /// Sorted without regard to case.
    Url,
    Filters,
    /// Sorted without regard to case.
    Description,
    Paused,
    Created,
    /// The status of the last attempt, or the code of its outcome when there was no answer.
    /// Webhooks without attempts come first.
    Last,
    /// The share of attempts of the last 24 hours that succeeded. Webhooks without attempts come
    /// first.
    Rate,
}

/// The conditions and the order of a list of webhooks, and the page.
#[derive(Debug, Clone)]
pub struct GridFilter {
    /// `None` for the webhooks of all owners.
    pub owner: Option<Name>,
    /// Words each of which must occur in a webhook, in any case, or be its id.
    pub words: Vec<String>,
    /// The column to sort by. Equal webhooks are sorted by their ids.
    pub column: Column,
    /// Whether the greatest value comes first.
    pub descending: bool,
    /// The key at which the page begins or ends; `None` for the first page.
    pub anchor: Option<PageAnchor>,
    /// The most webhooks of a page.
    pub limit: i64,
}

/// The key next to which a page lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageAnchor {
    /// The page begins after this key.
    After(Key),
    /// The page ends before this key.
    Before(Key),
}

/// The key by which a webhook is sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The beginning of the column's text; it never has U+0000.
    pub text: String,
    pub id: WebhookId,
}

/// A page of the grid.
#[derive(Debug, Clone, Default)]
pub struct GridPage {
    pub webhooks: Vec<Webhook>,
    /// The first and the last key of the page; `None` when it is empty.
    pub ends: Option<(Key, Key)>,
    /// The number of webhooks on the pages before this one.
    pub before: i64,
    /// The number of webhooks on all pages.
    pub found: i64,
}

/// The number of characters of a text that count for sorting, since the key is part of a page's
/// URL.
const KEY: usize = 64;

impl Column {
    /// The SQL expression of the text to sort by, byte by byte.
    fn key(self) -> &'static str {
        match self {
            Self::User => "w.owner_key",
            Self::Url => "lower(w.uri)",
            Self::Filters => FILTERS,
            Self::Description => "lower(btrim(coalesce(w.description, ''), E' \\t\\n\\r'))",
            Self::Paused => "case when w.paused then 'paused' else 'active' end",
            Self::Created => {
                "lpad((extract(epoch from w.created_at) * 1000000)::bigint::text, 20, '0')"
            }
            Self::Last => "coalesce(t.last, h.status::text, h.outcome, '')",
            Self::Rate => {
                "coalesce(lpad(((coalesce(h.succeeded, 0) + coalesce(t.succeeded, 0)) * 1000000
                     / nullif(coalesce(h.succeeded + h.failed, 0)
                              + coalesce(t.succeeded + t.failed, 0), 0))::text, 7, '0'), '')"
            }
        }
    }

    /// Whether the column depends on attempts.
    fn is_health(self) -> bool {
        matches!(self, Self::Last | Self::Rate)
    }
}

/// The filters of a webhook, as they are shown.
const FILTERS: &str = "coalesce(nullif(array_to_string(w.filters, ' '), ''), '*')";

/// The attempts that are not counted yet, which began at `$7` or later, of events that were received
/// at `$8` or later.
const TAIL: &str = "tail as materialized (
        select webhook,
               count(*) filter (where outcome = 'delivered') as succeeded,
               count(*) filter (where outcome <> 'delivered') as failed,
               (array_agg(coalesce(status::text, outcome) order by at desc))[1] as last
        from attempts where at >= $7 and outcome is not null and received_at >= $8
        group by webhook
    ), ";

/// The statement of a page. Parameters: $1 owner, $2 patterns of words, $3 and $4 the key next to
/// which the page lies, $5 limit, $6 whether ids are searched, too. With `up` the page is read from
/// lesser to greater keys.
fn statement(column: Column, up: bool) -> String {
    let (beyond, behind, order) = if up { (">", "<=", "asc") } else { ("<", ">=", "desc") };
    let (tail, joined) = if column.is_health() {
        let joined = "left join webhook_health h on h.webhook = w.id
            left join tail t on t.webhook = w.id";
        (TAIL, joined)
    } else {
        ("", "")
    };
    let key = column.key();
    format!(
        "-- webhooks_grid
        with {tail}matching as materialized (
            select w.id, left({key}, {KEY}) collate \"C\" as key
            from webhooks w {joined}
            where w.deleted_at is null and ($1::text is null or w.owner_key = $1)
              and (cardinality($2::text[]) = 0
                   or lower(concat_ws(E'\\n', w.uri, w.description, w.owner, {FILTERS},
                                      case when $6 then replace(w.id::text, '-', '') end))
                      like all ((select array_agg(lower(word)) from unnest($2::text[]) as s(word))
                                ::text[]))
        )
        select c.found, c.behind, p.key, p.id
        from (select count(*) as found,
                     count(*) filter (where (key, id) {behind} ($3::text, $4::uuid)) as behind
              from matching) c
        left join lateral (select key, id from matching
                           where $3::text is null or (key, id) {beyond} ($3::text, $4::uuid)
                           order by key {order}, id {order} limit $5) p on true
        order by p.key {order}, p.id {order}"
    )
}

impl Store {
    /// Reads a page of webhooks.
    pub async fn webhooks_grid(&self, filter: &GridFilter) -> Result<GridPage, StoreError> {
        let (forward, from) = match &filter.anchor {
            None => (true, None),
            Some(PageAnchor::After(key)) => (true, Some(key)),
            Some(PageAnchor::Before(key)) => (false, Some(key)),
        };
        let tail = if filter.column.is_health() { Some(self.tail().await?) } else { None };
        let owner = filter.owner.as_ref().map(Name::key);
        let (text, id) = from.map(|key| (key.text.as_str(), key.id.0)).unzip();
        let patterns: Vec<String> = filter.words.iter().map(|word| pattern(word)).collect();
        let is_id = filter.words.iter().any(|word| word.parse::<WebhookId>().is_ok());
        let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![
            /* owner */ &owner,
            /* words */ &patterns,
            /* key */ &text,
            /* id */ &id,
            /* limit */ &filter.limit,
            /* is_id */ &is_id,
        ];
        if let Some((counted_to, oldest)) = &tail {
            parameters.extend([counted_to as &(dyn tokio_postgres::types::ToSql + Sync), oldest]);
        }
        let statement = statement(filter.column, forward != filter.descending);
        let rows = self.webhooks_rows(&statement, &parameters).await?;
        let mut found = keys(&rows)?;
        let n = i64::try_from(found.keys.len()).unwrap_or(0);
        if !forward {
            found.keys.reverse();
        }
        Ok(GridPage {
            webhooks: self.webhooks_in_order(&found.keys).await?,
            before: if forward { found.behind } else { found.found - found.behind - n },
            found: found.found,
            ends: found.keys.first().cloned().zip(found.keys.last().cloned()),
        })
    }

    /// Counts all webhooks, or those of one owner.
    pub async fn webhooks_number(&self, owner: Option<&Name>) -> Result<i64, StoreError> {
        const SQL: &str = "-- webhooks_number
            select count(*) from webhooks
            where deleted_at is null and ($1::text is null or owner_key = $1)";
        let client = self.connection("count webhooks").await?;
        client.query_one(&Cached(SQL), &[&owner.map(Name::key)]).await?.column("count")
    }

    async fn webhooks_in_order(&self, keys: &[Key]) -> Result<Vec<Webhook>, StoreError> {
        let ids: Vec<WebhookId> = keys.iter().map(|key| key.id).collect();
        let webhooks = self.webhooks_get(&ids).await?.into_iter();
        let mut webhooks: HashMap<WebhookId, Webhook> =
            webhooks.map(|webhook| (webhook.id, webhook)).collect();
        // A webhook that was deleted meanwhile is left out.
        Ok(ids.iter().filter_map(|id| webhooks.remove(id)).collect())
    }

    /// The time from which on attempts are counted for a page, and the time from which on their
    /// events must have been received. When they are too many, none is counted.
    async fn tail(&self) -> Result<(DateTime<Utc>, DateTime<Utc>), StoreError> {
        let progress = self.count_progress().await?;
        let never = || Utc.with_ymd_and_hms(9999, 1, 1, 0, 0, 0).single().unwrap_or_default();
        Ok((if progress.is_near { progress.to } else { never() }, progress.oldest))
    }
}

/// The pattern of `like` for texts that contain a word.
fn pattern(word: &str) -> String {
    let mut pattern = String::from("%");
    for c in word.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}

/// The result of the statement.
struct FoundKeys {
    found: i64,
    behind: i64,
    keys: Vec<Key>,
}

fn keys(rows: &[Row]) -> Result<FoundKeys, StoreError> {
    let mut found = FoundKeys { found: 0, behind: 0, keys: Vec::with_capacity(rows.len()) };
    for row in rows {
        (found.found, found.behind) = (row.column("found")?, row.column("behind")?);
        let (text, id): (Option<String>, Option<Uuid>) = (row.column("key")?, row.column("id")?);
        found.keys.extend(text.zip(id).map(|(text, id)| Key { text, id: WebhookId(id) }));
    }
    Ok(found)
}
