//! `fanfare operations`: lists, shows and changes bulk operations, and recovers what webhooks missed.

pub(super) mod follow;
mod recover;

use fanfare_app::json::operation as view;
use fanfare_app::operations::{self, OperationError};
use fanfare_app::{Context, clock};
use fanfare_core::operation::{Change, Rate};
use fanfare_store::operations::Operation;
use uuid::Uuid;

use super::ids;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table::{self, or_dash};
use crate::wiring;

/// The headings of the list.
const HEADINGS: [&str; 9] =
    ["ID", "KIND", "STATE", "SETTLED", "TOTAL", "FAILED AGAIN", "KEPT", "ASKED", "BY"];

/// The commands about bulk operations.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List bulk operations, the newest first
    List(ListArgs),
    /// Show an operation with its progress
    Show(IdArgs),
    /// Pause an operation: no further letter is replayed, discarded or recovered
    Pause(IdArgs),
    /// Resume a paused operation
    Resume(IdArgs),
    /// Cancel an operation: letters that it has not reached stay dead
    Cancel(IdArgs),
    /// Recover what webhooks missed: send the events of a time that they have no delivery of, or whose
    /// delivery was dropped, because the webhook was paused or did not exist, or its owner was disabled
    Recover(recover::RecoverArgs),
    /// Restore the dead deliveries that an operation discarded in the last 7 days
    Undo(IdArgs),
}

/// The arguments of `fanfare operations list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The largest number of operations to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of a command about one operation.
#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    /// The operation's id, from the list
    #[arg(value_name = "ID", value_parser = ids::parse::<Uuid>)]
    id: Uuid,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// How an operation is made. Each of these options makes one.
#[derive(Debug, clap::Args)]
pub(super) struct OperationArgs {
    /// Work on at most this number of letters a second, as an operation that goes on when this command
    /// is ended
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(super) rate: Option<Rate>,
    /// Send each webhook one letter first, then up to ten at a time, and stop for those whose receiver
    /// fails again; as an operation
    #[arg(long)]
    pub(super) canary: bool,
    /// Add a remark to the operation
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
}

impl OperationArgs {
    pub(super) fn is_wanted(&self) -> bool {
        self.rate.is_some() || self.canary || self.note.is_some()
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let number = text.parse().map_err(|_| "write a whole number of letters a second".to_owned())?;
    Rate::of(number).map_err(|error| error.to_string())
}

/// Runs a command about operations.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let context = &wiring::context(settings, "operations")?;
    let operator = operator();
    let change = async |args: IdArgs, change| {
        let changed = operations::change(context, &operator, args.id, change).await;
        print(&changed.map_err(failed)?, args.json)
    };
    match command {
        Command::List(args) => list(&args, context).await,
        Command::Show(args) => {
            let shown = operations::show(context, &operator, args.id).await;
            print(&shown.map_err(failed)?, args.json)
        }
        Command::Pause(args) => change(args, Change::Pause).await,
        Command::Resume(args) => change(args, Change::Resume).await,
        Command::Cancel(args) => change(args, Change::Cancel).await,
        Command::Recover(args) => recover::run(&args, context, settings).await,
        Command::Undo(args) => {
            let restored = operations::undo(context, &operator, args.id).await.map_err(failed)?;
            if !args.json {
                return output::print(&format!("restored {restored}\n"));
            }
            let shown = operations::show(context, &operator, args.id).await;
            print(&shown.map_err(failed)?, true)
        }
    }
}

async fn list(args: &ListArgs, context: &Context) -> anyhow::Result<()> {
    let listed = operations::list(context, &operator(), None, args.limit).await;
    let operations = listed.map_err(failed)?.operations;
    if args.json {
        return output::print_json(&operations.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&HEADINGS, operations.iter().map(row)))
}

fn row(operation: &Operation) -> [String; HEADINGS.len()] {
    let counts = &operation.counts;
    [
        operation.id.simple().to_string(),
        operation.kind.code().to_owned(),
        operation.state.code().to_owned(),
        counts.settled.to_string(),
        counts.total.to_string(),
        counts.failed.to_string(),
        counts.kept().to_string(),
        clock::rfc3339(operation.asked_at),
        or_dash(operation.author.actor.as_deref()),
    ]
}

fn print(operation: &Operation, json: bool) -> anyhow::Result<()> {
    if json {
        return output::print_json(&view::json(operation));
    }
    let counts = &operation.counts;
    let kept = counts.refused.iter().map(|(why, letters)| format!("{letters} {why}"));
    let kept = kept.collect::<Vec<_>>().join(", ");
    let author = &operation.author;
    let rate =
        operation.rate.map(|rate| format!("{} letters a second", Rate::letters_per_second(rate)));
    output::print(&table::facts(&[
        ("id", operation.id.simple().to_string()),
        ("kind", operation.kind.code().to_owned()),
        ("state", operation.state.code().to_owned()),
        ("filter", operation.filter.to_string()),
        ("note", or_dash(operation.note.as_deref())),
        ("rate", or_dash(rate)),
        ("canary", if operation.canary { "yes" } else { "no" }.to_owned()),
        ("letters", counts.total.to_string()),
        ("waiting", counts.waiting().to_string()),
        ("settled", counts.settled.to_string()),
        ("delivered", counts.delivered.to_string()),
        ("open", operation.open().to_string()),
        ("failed again", counts.failed.to_string()),
        ("dropped", counts.dropped.to_string()),
        ("kept", if kept.is_empty() { "-".to_owned() } else { kept }),
        ("asked", clock::rfc3339(operation.asked_at)),
        ("by", format!("{} ({})", or_dash(author.actor.as_deref()), author.via.door.code())),
        ("ended", or_dash(operation.ended_at.map(clock::rfc3339))),
    ]))
}

/// The error of a use case, for the output.
pub(super) fn failed(error: OperationError) -> anyhow::Error {
    match error {
        OperationError::Store(error) => error.into(),
        other => other.into(),
    }
}
