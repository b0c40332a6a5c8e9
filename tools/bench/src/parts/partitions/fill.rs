//! Filling a ledger: the database generates the rows of each day itself.

use std::time::Instant;

use anyhow::Result;
use chrono::{DateTime, Days, NaiveTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::PART;
use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::seed;
use crate::stage::Stage;
use crate::world::{SECRET, World};

/// Stored webhooks, and their owners.
const WEBHOOKS: u64 = 200;
const OWNERS: u64 = 50;

/// Attempts of an event in the mean: ten deliveries, of which three in a hundred fail once.
const ATTEMPTS_OF_AN_EVENT: f64 = 10.3;

/// The default of `FANFARE_KEEP_PAYLOADS`, in days.
const PAYLOADS: u64 = 30;

pub(super) async fn run(
    stage: &Stage,
    plan: &Plan,
    report: &mut Report,
    world: &World,
) -> Result<()> {
    let database = &world.name;
    let begin = Instant::now();
    let hooks: Vec<Value> = (0..WEBHOOKS).map(hook).collect();
    let hooks = Value::from(hooks).to_string();
    world.import(stage, &["webhooks", "import", "--no-verify"], &hooks).await?;
    clear(stage, database)?;
    let all = number::float(plan.partitions_attempts) / ATTEMPTS_OF_AN_EVENT;
    let each = number::whole(all / number::float(plan.partitions_days)).max(10);
    let now = DateTime::<Utc>::from(std::time::SystemTime::now());
    for ago in 0..plan.partitions_days {
        if ago % 10 == 0 {
            say(&format!("partitions: filling, {ago} of {} days", plan.partitions_days));
        }
        day(stage, database, now, ago, each)?;
    }
    keys(stage, database)?;
    progress(stage, database)?;
    seed::analyze(stage, database)?;
    report.add(PART, "filling", "s", begin.elapsed().as_secs_f64());
    let size = "-- bench_size\nselect pg_database_size(current_database()) / 1048576.0";
    report.add(PART, "size of the database", "MiB", stage.sql(database, size)?.trim().parse()?);
    let stored = "-- bench_stored\nselect sum(reltuples) from pg_class c join ledger_partitions p
                  on c.oid = to_regclass(p.name) where parent = 'attempts' and reltuples > 0";
    report.add(PART, "stored attempts", "attempts", stage.sql(database, stored)?.trim().parse()?);
    Ok(())
}

/// A webhook that got the stored events, and gets none of the others.
fn hook(number: u64) -> Value {
    json!({
        "Id": Uuid::new_v4().simple().to_string(), "User": format!("owner{}", number % OWNERS),
        "WebHookUri": format!("https://receiver.example/{number}"), "Secret": SECRET,
        "Filters": ["categories"],
    })
}

/// Drops the partitions of today and of this week, which the migration made, so that they can be filled
/// before they are attached.
fn clear(stage: &Stage, database: &str) -> Result<()> {
    let statement = "-- bench_clear
        do $$
        declare
            one text;
        begin
            for one in select name from ledger_partitions
                       where since <= now() and not is_default loop
                execute format('drop table %I', one);
            end loop;
        end $$";
    stage.sql(database, statement).map(drop)
}

/// Fills the day that was `ago` days before today.
fn day(stage: &Stage, database: &str, now: DateTime<Utc>, ago: u64, events: u64) -> Result<()> {
    let day = (now - Days::new(ago)).date_naive().and_time(NaiveTime::MIN).and_utc();
    let seconds = if ago == 0 { (now - day).as_seconds_f64().max(1.0) } else { 86_400.0 };
    // Only today's partition is written later. What is not logged is filled in half of the time.
    let persistence = if ago == 0 { "" } else { "unlogged" };
    let statement = include_str!("day.sql")
        .replace(":name", &day.format("%Y%m%d").to_string())
        .replace(":persistence", persistence)
        .replace(":events", &events.to_string())
        .replace(":seconds", &seconds.to_string())
        .replace(":old", if ago > PAYLOADS { "true" } else { "false" })
        .replace(":day", &day.to_rfc3339_opts(SecondsFormat::Secs, true));
    stage.sql(database, &statement).map(drop)
}

/// Fills the keys of all events.
fn keys(stage: &Stage, database: &str) -> Result<()> {
    let statement = "-- bench_keys
        do $$
        declare
            week timestamptz;
            of_week text;
        begin
            for week in select distinct date_trunc('week', p.since, 'UTC') from ledger_partitions p
                        where p.parent = 'events' and p.since <= now() loop
                of_week := 'event_keys_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
                execute format('create table %I (like event_keys including defaults
                                                 including constraints)', of_week);
                execute format('insert into %1$I (week, key, batch, received_at)
                                select %2$L, key, batch, received_at from events
                                where received_at >= %2$L and received_at < %3$L',
                               of_week, week, week + interval '168 hours');
                execute format('alter table event_keys attach partition %I for values from (%L) to (%L)',
                               of_week, week, week + interval '168 hours');
            end loop;
        end $$";
    stage.sql(database, statement).map(drop)
}

/// Says that what is old has no payloads, and nothing is counted: as an upgrade leaves it.
fn progress(stage: &Stage, database: &str) -> Result<()> {
    let statement = format!(
        "-- bench_progress
        update payload_progress set received_at = now() - interval '{PAYLOADS} days';
        update attempt_hours_state
        set counted_from = date_trunc('hour', now(), 'UTC') - interval '1 hour',
            counted_to = date_trunc('hour', now(), 'UTC') - interval '1 hour';
        update health_state set counted_to = now() - interval '1 day';
        insert into audit (at, actor, actor_key, door, action, object_kind, object_id, webhook, owner,
                           owner_key)
        select now() - n * interval '1 minute', 'bench', 'bench', 'console', 'webhook.changed', 'webhook',
               replace(w.id::text, '-', ''), w.id, w.owner, w.owner_key
        from generate_series(1, 100) n cross join webhooks w"
    );
    stage.sql(database, &statement).map(drop)
}
