//! Groups of dead letters, with their numbers over time.

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::dead_letter::{Choice, GroupBy};

use super::choice::Conditions;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The number of parts of a chart.
const PARTS: i32 = 24;

/// Letters that have a property in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The property's value; `None` for letters without it.
    pub value: Option<String>,
    /// The owner of a webhook, when grouped by webhooks.
    pub owner: Option<String>,
    pub count: i64,
    /// How many would not be sent if they were replayed now.
    pub refused: Refused,
    /// When the first of them died.
    pub first: DateTime<Utc>,
    /// When the last of them died.
    pub last: DateTime<Utc>,
    /// The numbers of letters that died in each part of the chart's time.
    pub chart: Vec<i64>,
}

/// The deliveries that would not be sent if they were replayed now, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    pub webhook_deleted: i64,
    pub webhook_paused: i64,
    /// The owner is disabled or no longer in the directory.
    pub owner_disabled: i64,
}

/// Groups, the largest first, and the time of their charts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    pub groups: Vec<Group>,
    /// The number of groups, also of those that are left out.
    pub total: usize,
    /// The beginning of the charts.
    pub since: DateTime<Utc>,
    /// The length of each part of a chart.
    pub part: TimeDelta,
}

impl Store {
    /// Groups the open letters of a choice: the `most` largest groups.
    pub async fn letters_groups(
        &self,
        choice: &Choice,
        by: GroupBy,
        most: usize,
    ) -> Result<Groups, StoreError> {
        let conditions = Conditions::of(choice);
        let column = match by {
            GroupBy::Reason => "reason",
            GroupBy::Webhook => "webhook",
            GroupBy::Owner => "owner_key",
            GroupBy::Host => "host",
            GroupBy::EventType => "event_type",
            GroupBy::Status => "status",
            GroupBy::Cause => "cause",
        };
        let sql = format!(
            include_str!("../sql/letters_groups.sql"),
            column = column,
            PARTS = PARTS,
            conditions = conditions.sql(),
            is_webhook = by == GroupBy::Webhook,
        );
        let client = self.connection("group dead letters").await?;
        let rows = client.query(&sql, &conditions.values()).await?;
        let (mut since, mut part) = (DateTime::UNIX_EPOCH, 1.0);
        let mut groups = Vec::new();
        for row in rows.iter().take(most) {
            (since, part) = (row.column("since")?, row.column("length")?);
            let (parts, counts): (Vec<i32>, Vec<i64>) =
                (row.column("parts")?, row.column("counts")?);
            groups.push(Group {
                value: row.column("value")?,
                owner: row.column("owner")?,
                count: row.column("count")?,
                refused: Refused {
                    webhook_deleted: row.column("webhook_deleted")?,
                    webhook_paused: row.column("webhook_paused")?,
                    owner_disabled: row.column("owner_disabled")?,
                },
                first: row.column("first")?,
                last: row.column("last")?,
                chart: chart(&parts, &counts),
            });
        }
        let part = std::time::Duration::from_secs_f64(part);
        let part = TimeDelta::from_std(part).unwrap_or(TimeDelta::MAX);
        Ok(Groups { groups, total: rows.len(), since, part })
    }
}

fn chart(parts: &[i32], counts: &[i64]) -> Vec<i64> {
    let mut chart = vec![0; usize::try_from(PARTS).unwrap_or_default()];
    for (part, count) in parts.iter().zip(counts) {
        if let Some(at) = usize::try_from(*part).ok().and_then(|part| chart.get_mut(part)) {
            *at += count;
        }
    }
    chart
}
