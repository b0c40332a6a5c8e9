//! What administrators see first: how much waits, for how long, and who works.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::workers::SETTLE_TIME;

/// The time for which attempts are measured, and the most of them.
const MEASURED: Duration = Duration::from_mins(10);
const MOST: i64 = 5000;

/// The state of the installation, as far as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// When the oldest event was received that has not ended for every webhook.
    pub oldest: Option<DateTime<Utc>>,
    /// Webhooks whose receivers asked to wait.
    pub held: i64,
    /// Webhooks that are active and whose attempts have failed since some time.
    pub failing: i64,
    /// Webhooks that the service has paused.
    pub paused: i64,
    /// Dead events that nobody has decided about.
    pub dead_events: i64,
    /// Dead deliveries that nobody has decided about.
    pub dead_deliveries: i64,
    /// Undecided dead letters that died within the last hour.
    pub died_lately: i64,
    /// Workers that have reported within the last seconds.
    pub workers: i64,
    /// How long receivers took to answer.
    pub answers: Option<Answers>,
}

/// How long receivers took to answer the newest attempts: those of ten minutes, or a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Half of the attempts took at most so long.
    pub half: Duration,
    /// 95 of 100 attempts took at most so long.
    pub most: Duration,
    /// The number of attempts that were measured.
    pub attempts: i64,
}

impl Store {
    /// Reads the state of the installation.
    pub async fn overview(&self) -> Result<Overview, StoreError> {
        const SQL: &str = include_str!("sql/overview.sql");
        let client = self.connection("read the overview").await?;
        let alive = SETTLE_TIME.as_secs_f64();
        let row = client.query_one(SQL, &[&alive]).await?;
        drop(client);
        Ok(Overview {
            oldest: row.column("oldest")?,
            held: row.column("held")?,
            failing: row.column("failing")?,
            paused: row.column("paused")?,
            dead_events: row.column("dead_events")?,
            dead_deliveries: row.column("dead_deliveries")?,
            died_lately: row.column("died_lately")?,
            workers: row.column("workers")?,
            answers: self.answers().await?,
        })
    }

    async fn answers(&self) -> Result<Option<Answers>, StoreError> {
        const SQL: &str = "-- overview_answers
            select count(*) as attempts,
                   percentile_disc(0.5) within group (order by duration_ms) as half,
                   percentile_disc(0.95) within group (order by duration_ms) as most
            from (select duration_ms from attempts
                  where at >= now() - $1::float8 * interval '1 second'
                    and received_at >= now() - interval '1 day'
                    and outcome is not null and duration_ms is not null
                  limit $2) newest";
        let client = self.connection("measure the answers of receivers").await?;
        let row = client.query_one(SQL, &[&MEASURED.as_secs_f64(), &MOST]).await?;
        let (half, most): (Option<i32>, Option<i32>) = (row.column("half")?, row.column("most")?);
        let time = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
        let attempts = row.column("attempts")?;
        Ok(half.zip(most).map(|(half, most)| Answers {
            half: time(half),
            most: time(most),
            attempts,
        }))
    }
}
