//! Counting attempts by hour, webhook and outcome, into `attempt_hours`.
//!
//! Two ends move apart: new attempts are added some time after they began, when their rows must be in
//! the ledger; and the attempts from before the table existed are added hour by hour, into the past. The
//! transaction that adds attempts moves the end over them, so that each is counted once, even if a process dies.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::StoreError;
use crate::health::Counted;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The age from which on hours are removed: it is longer than the longest time that statistics show.
const KEPT: TimeDelta = TimeDelta::days(32);

/// The longest time that one step counts: a day in one statement would take long on a busy system.
const STEP: TimeDelta = TimeDelta::hours(1);

/// The time from which on a step counts new attempts rather than old ones: at each step, there are some.
const WORTH: TimeDelta = TimeDelta::seconds(10);

/// The most rows of old hours that one step removes.
const REMOVED: i64 = 10_000;

/// The part of the attempts that one step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// The attempts that are counted: those that began from `from` on and before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Ends {
    /// The next step, and the ends after it; `None` when everything is counted that began before
    /// `settled` and is not too old at `now`. New attempts go first.
    fn next(self, settled: DateTime<Utc>, now: DateTime<Utc>) -> Option<(Range, Self)> {
        let oldest = now - KEPT;
        let begin = self.to.max(oldest);
        let is_far_back = self.from > oldest;
        if begin < settled && (settled - begin >= WORTH || !is_far_back) {
            let end = settled.min(begin + STEP);
            return Some((Range { begin, end }, Self { to: end, ..self }));
        }
        if is_far_back {
            let begin = self.from - STEP;
            return Some((Range { begin, end: self.from }, Self { from: begin, ..self }));
        }
        None
    }
}

impl Store {
    /// Makes a step: it counts attempts that began longer than `settled` ago by the database's clock, or
    /// an hour of those from before the table existed, and removes hours that are too old. If several
    /// processes call this, one of them counts.
    pub async fn statistics_count(&self, settled: Duration) -> Result<Counted, StoreError> {
        const ENDS: &str = "-- statistics_count
            select counted_from, counted_to, now() as now,
                   now() - $1::float8 * interval '1 second' as settled_at
            from attempt_hours_state for update skip locked";
        const ADD: &str = include_str!("../sql/attempt_hours_add.sql");
        const MOVE: &str = "-- statistics_count
            update attempt_hours_state set counted_from = $1, counted_to = $2";
        const REMOVE: &str = "-- statistics_count
            delete from attempt_hours where (webhook, hour, outcome) in (
                select webhook, hour, outcome from attempt_hours
                where hour < $1 order by hour limit $2)";
        let mut client = self.connection("count attempts by hour").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(ENDS, &[&settled.as_secs_f64()]).await?;
        let Some(row) = row else {
            return Ok(Counted::All);
        };
        let ends = Ends { from: row.column("counted_from")?, to: row.column("counted_to")? };
        let (now, settled_at) = (row.column("now")?, row.column("settled_at")?);
        let Some((range, after)) = ends.next(settled_at, now) else {
            return Ok(Counted::All);
        };
        transaction.execute(ADD, &[&range.begin, &range.end]).await?;
        transaction.execute(MOVE, &[&after.from, &after.to]).await?;
        transaction.execute(REMOVE, &[&(now - KEPT), &REMOVED]).await?;
        transaction.commit().await?;
        let is_done = after.next(settled_at, now).is_none();
        Ok(if is_done { Counted::All } else { Counted::More })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
    }

    #[test]
    fn steps_cover_each_moment_once_first_the_new_ones_and_then_the_past() {
        let now = at(0);
        let mut ends = Ends { from: at(-150), to: at(-150) };
        let mut steps = Vec::new();
        while let Some((range, after)) = ends.next(at(-2), now) {
            steps.push(range);
            ends = after;
        }
        assert_eq!(steps[0], Range { begin: at(-150), end: at(-90) });
        assert_eq!(steps[2], Range { begin: at(-30), end: at(-2) });
        assert_eq!(steps[3], Range { begin: at(-210), end: at(-150) });
        let covered: TimeDelta = steps.iter().map(|step| step.end - step.begin).sum();
        assert_eq!((ends.to, covered), (at(-2), ends.to - ends.from));
        assert!(ends.from <= now - KEPT && ends.from > now - KEPT - STEP);
    }

    #[test]
    fn a_few_new_attempts_do_not_keep_the_past_from_being_counted() {
        let ends = Ends { from: at(-150), to: at(-2) };
        let soon = at(-2) + TimeDelta::seconds(1);
        let (range, after) = ends.next(soon, at(0)).unwrap();
        assert_eq!(range, Range { begin: at(-210), end: at(-150) });
        let (range, _) = Ends { from: at(0) - KEPT, ..after }.next(soon, at(0)).unwrap();
        assert_eq!(range, Range { begin: at(-2), end: soon });
    }

    #[test]
    fn what_is_too_old_is_not_counted_after_a_long_pause() {
        let ends = Ends { from: at(-60 * 24 * 90), to: at(-60 * 24 * 60) };
        let (range, _) = ends.next(at(-2), at(0)).unwrap();
        assert_eq!(range.begin, at(0) - KEPT);
    }
}
