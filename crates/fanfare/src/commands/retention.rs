//! `fanfare retention`: shows the partitions of the ledger and of the audit trail, drops those that are
//! no longer kept, and removes payloads that are too old.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fanfare_app::json::storage as view;
use fanfare_app::{clock, storage};
use fanfare_store::Store;
use fanfare_store::retention::{DAYS_AHEAD, Keep, Partition, Step};
use fanfare_store::sizes::KindSize;
use serde::Serialize;

use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The pause before a step is tried again whose locks were not free.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause between two steps that remove payloads.
const PAYLOAD_PAUSE: Duration = Duration::from_millis(50);

/// The most tries in a row for one step whose locks are not free.
const TRIES: u32 = 60;

/// The arguments of `fanfare retention`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what would be dropped, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Show the size of each kind of data, what a day adds, and when the disk will be full, and change
    /// nothing
    #[arg(long, conflicts_with = "dry_run")]
    sizes: bool,
    /// Print a JSON array, or an object for --sizes
    #[arg(long)]
    json: bool,
}

/// A partition as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    table: String,
    partition: String,
    from: Option<String>,
    to: Option<String>,
    bytes: i64,
    /// An estimate; absent until the database has counted the rows.
    rows: Option<i64>,
    /// Whether all its rows are older than what is kept.
    due: bool,
    /// For a partition of events that is due: the unsettled events, and the dead deliveries that were
    /// neither replayed nor discarded, which stay.
    stays: Option<i64>,
    /// Whether this command has dropped it.
    dropped: bool,
    /// For a partition of events: `kept`, `due` (some of its payloads are too old) or `removed`. Rows
    /// that are unsettled or undecided keep theirs. Absent while payloads are kept for ever.
    payloads: Option<&'static str>,
}

/// How far payloads are removed, and how far they should be.
#[derive(Clone, Copy)]
struct Payloads {
    removed_before: DateTime<Utc>,
    due_before: Option<DateTime<Utc>>,
}

impl Payloads {
    async fn load(store: &Store, keep: Keep, now: DateTime<Utc>) -> anyhow::Result<Self> {
        let removed_before = store.payloads_removed_before().await?;
        let age = keep.payloads.and_then(|age| TimeDelta::from_std(age).ok());
        let due_before = age.and_then(|age| now.checked_sub_signed(age));
        Ok(Self { removed_before, due_before })
    }

    /// The state of the payloads of this partition.
    fn of(self, partition: &Partition) -> Option<&'static str> {
        let until = partition.until.filter(|_| partition.table == "events")?;
        let since = partition.since.unwrap_or(DateTime::UNIX_EPOCH);
        let due_before = self.due_before?;
        Some(match (until <= self.removed_before, due_before > since) {
            (true, _) => "removed",
            (false, true) if self.removed_before.max(since) < due_before.min(until) => "due",
            (false, _) => "kept",
        })
    }
}

/// Shows the partitions, and drops those that are due.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    if args.sizes {
        return show_sizes(args, settings).await;
    }
    let store = wiring::store(settings, "retention")?;
    let keep = settings.retention.keep();
    let now = clock::now();
    let mut shown = Vec::new();
    let partitions = store.partitions().await?;
    let payloads = Payloads::load(&store, keep, now).await?;
    for partition in &partitions {
        let state = payloads.of(partition);
        shown.push(Shown { payloads: state, ..show(&store, keep, partition, now).await? });
    }
    if !args.dry_run {
        drop_due(&store, keep).await?;
        remove_payloads(&store, keep).await?;
        let left = store.partitions().await?;
        let payloads = Payloads::load(&store, keep, now).await?;
        for (one, partition) in shown.iter_mut().zip(&partitions) {
            one.dropped = !left.iter().any(|left| left.name == one.partition);
            one.payloads = payloads.of(partition);
        }
    }
    if args.json {
        return output::print_json(&shown);
    }
    output::print(&table::render(
        &["TABLE", "FROM", "TO", "SIZE", "ROWS", "STAYS", "STATE", "PAYLOADS"],
        shown.iter().map(row),
    ))
}

async fn show_sizes(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let context = wiring::context(settings, "retention")?;
    let limits = settings.retention.storage();
    let shown = storage::show(&context, &operator(), limits).await?;
    if args.json {
        return output::print_json(&view::json(&shown));
    }
    let text = |number: Option<i64>| number.map(|it| it.to_string()).unwrap_or_default();
    let row = |kind: &KindSize| {
        let per_day = kind.per_day.map(size).unwrap_or_default();
        [kind.kind.name().to_owned(), size(kind.bytes), text(kind.rows), per_day]
    };
    let sizes = &shown.sizes;
    output::print(&table::render(
        &["KIND", "SIZE", "ROWS", "GROWTH A DAY"],
        sizes.kinds.iter().map(row),
    ))?;
    let full = match (shown.disk, shown.full_on) {
        (None, _) => "set FANFARE_DATABASE_DISK to see when the disk will be full".to_owned(),
        (Some(_), None) if sizes.per_day().is_none() => {
            "when the disk will be full is known after the first whole day".to_owned()
        }
        (Some(_), None) => "at this growth, the disk will not become full".to_owned(),
        (Some(_), Some(day)) => {
            format!("at this growth, the disk will be full on {}", day.format("%Y-%m-%d"))
        }
    };
    output::print(&format!("\n{} in all; {full}", size(sizes.bytes())))
}

async fn show(
    store: &Store,
    keep: Keep,
    partition: &Partition,
    now: DateTime<Utc>,
) -> anyhow::Result<Shown> {
    let due = keep.is_due(partition, now);
    let stays = match partition.until {
        Some(until) if due && partition.table == "events" => {
            let since = partition.since.unwrap_or(DateTime::UNIX_EPOCH);
            Some(store.kept_count(since, until).await?)
        }
        _ => None,
    };
    Ok(Shown {
        from: partition.since.map(text),
        to: partition.until.map(text),
        table: partition.table.clone(),
        partition: partition.name.clone(),
        bytes: partition.bytes,
        rows: partition.rows,
        due,
        stays,
        dropped: false,
        payloads: None,
    })
}

/// Removes the payloads that are too old, with pauses, so that the database has time for others.
async fn remove_payloads(store: &Store, keep: Keep) -> anyhow::Result<()> {
    let Some(age) = keep.payloads else { return Ok(()) };
    let mut others = 0;
    loop {
        match store.payloads_remove(age).await? {
            Some(removed) if !removed.more => return Ok(()),
            Some(_) => others = 0,
            None if others == TRIES => bail!(
                "payloads were not removed within {TRIES} tries: another process is at it, or holds \
                 locks; run this again later"
            ),
            None => others += 1,
        }
        tokio::time::sleep(if others > 0 { PAUSE } else { PAYLOAD_PAUSE }).await;
    }
}

/// Makes the missing partitions, and drops those that are due.
async fn drop_due(store: &Store, keep: Keep) -> anyhow::Result<()> {
    store.partitions_make(DAYS_AHEAD).await?;
    let mut busy = 0;
    loop {
        match store.retention_step(keep).await? {
            Step::Done => return Ok(()),
            Step::Dropped { .. } | Step::Swept(_) => busy = 0,
            Step::Busy if busy == TRIES => bail!(
                "the locks that dropping needs were not free within {TRIES} tries; a long \
                 transaction has read the ledger: run this again when it has ended"
            ),
            Step::Busy => {
                busy += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn row(shown: &Shown) -> [String; 8] {
    let number = |number: Option<i64>| number.map(|it| it.to_string()).unwrap_or_default();
    let state = match (shown.dropped, shown.due) {
        (true, _) => "dropped",
        (false, true) => "due",
        (false, false) => "",
    };
    [
        shown.table.clone(),
        shown.from.clone().unwrap_or_default(),
        shown.to.clone().unwrap_or_default(),
        size(shown.bytes),
        number(shown.rows),
        number(shown.stays),
        state.to_owned(),
        shown.payloads.unwrap_or_default().to_owned(),
    ]
}

/// A size in a unit in which it has at most four digits, up to gigabytes.
fn size(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes, "B");
    for larger in ["kB", "MB", "GB"] {
        if size >= 10_240 {
            (size, unit) = (size / 1024, larger);
        }
    }
    format!("{size} {unit}")
}
