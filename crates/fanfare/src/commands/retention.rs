//! `fanfare retention`: shows the partitions of the ledger, and drops those that are no longer kept.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, SecondsFormat, Utc};
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
}

/// Shows the partitions, and drops those that are due.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    if args.sizes {
        return show_sizes(args, settings).await;
    }
    let store = wiring::store(settings, "retention")?;
    let keep = settings.retention.keep();
    let mut shown = Vec::new();
    for partition in store.partitions().await? {
        shown.push(show(&store, keep, partition).await?);
    }
    let dropped = if args.dry_run { Vec::new() } else { drop_due(&store, keep).await? };
    if !dropped.is_empty() {
        let left = store.partitions().await?;
        for one in &mut shown {
            one.dropped = !left.iter().any(|partition| partition.name == one.partition);
        }
    }
    if args.json {
        return output::print_json(&shown);
    }
    output::print(&table::render(
        &["TABLE", "FROM", "TO", "SIZE", "ROWS", "STAYS", "STATE"],
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

async fn show(store: &Store, keep: Keep, partition: Partition) -> anyhow::Result<Shown> {
    let due = keep.is_due(&partition, clock::now());
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
        table: partition.table,
        partition: partition.name,
        bytes: partition.bytes,
        rows: partition.rows,
        due,
        stays,
        dropped: false,
    })
}

/// Makes the missing partitions, and drops those that are due. Returns the names of these.
async fn drop_due(store: &Store, keep: Keep) -> anyhow::Result<Vec<String>> {
    store.partitions_make(DAYS_AHEAD).await?;
    let (mut dropped, mut busy) = (Vec::new(), 0);
    loop {
        match store.retention_step(keep).await? {
            Step::Done => return Ok(dropped),
            Step::Dropped { partition, .. } => {
                dropped.push(partition);
                busy = 0;
            }
            Step::Swept(_) => busy = 0,
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

fn row(shown: &Shown) -> [String; 7] {
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
