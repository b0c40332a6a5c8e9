//! `fanfare dead-letters`: lists, shows, replays, mends, discards and restores dead letters.

pub(super) mod bulk;
mod groups;
mod mend;
mod show;

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use chrono::{DateTime, Utc};
use fanfare_app::NotReceiving;
use fanfare_app::dead_letters::{
    self, Action, Kept, Listing, Outcome, Request, Stopped, Stores, settle,
};
use fanfare_app::json::dead_letter as view;
use fanfare_core::dead_letter::{Choice, Kind};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;

use super::operations::OperationArgs;
use super::{audit, deliveries, ids, users};
use crate::operator::operator;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about dead letters.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List dead letters, the oldest of each queue first
    List(ListArgs),
    /// Group dead letters by what they have in common, the largest group first
    Groups(groups::GroupsArgs),
    /// Show a dead letter with its message
    Show(ShowArgs),
    /// Replay dead letters: events are routed again, deliveries are attempted again
    Replay(SettleArgs),
    /// Publish a corrected event in place of a dead one
    Mend(mend::MendArgs),
    /// Delete dead letters
    Discard(SettleArgs),
    /// Put dead events back that the database keeps and their queue has lost
    Restore(RestoreArgs),
}

/// The choice of dead letters: all, unless an option narrows it.
#[derive(Debug, clap::Args)]
pub(crate) struct ChoiceArgs {
    /// Only dead letters of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only dead letters with this reason, such as unknown-filter or exhausted
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only dead letters of this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only dead letters of this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Only dead letters of webhooks at this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only dead letters of events of this type, such as reports.upload
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only dead letters with this HTTP status of the last answer
    #[arg(long, value_name = "STATUS")]
    status: Option<i32>,
    /// Only dead letters with this cause, from the groups
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only dead letters that died at this time or later: a time such as 2026-11-23T10:00:00Z, or a
    /// duration before now such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = audit::time)]
    since: Option<DateTime<Utc>>,
    /// Only dead letters that died before this time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = audit::time)]
    until: Option<DateTime<Utc>>,
    /// Only dead letters with this text in an id, a name, the reason or the error
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// The name of a dead letter queue on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum QueueName {
    /// Events and directory documents
    Events,
    /// Deliveries
    Deliveries,
}

impl ChoiceArgs {
    fn choice(&self, ids: &[String]) -> Choice {
        let kind = self.queue.map(|queue| match queue {
            QueueName::Events => Kind::Events,
            QueueName::Deliveries => Kind::Deliveries,
        });
        Choice {
            ids: ids.to_vec(),
            kind,
            reason: self.reason.clone(),
            webhook: self.webhook,
            owner: self.owner.clone(),
            host: self.host.clone(),
            event_type: self.event_type.clone(),
            status: self.status,
            cause: self.cause.clone(),
            since: self.since,
            until: self.until,
            text: self.text.clone(),
            noted_before: None,
        }
    }
}

/// The arguments of `fanfare dead-letters list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare dead-letters show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The dead letter's id, from the list
    id: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare dead-letters replay` and `discard`.
#[derive(Debug, clap::Args)]
pub(crate) struct SettleArgs {
    /// The dead letters' ids, from the list
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Choose all dead letters
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Only print how many dead letters it would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    operation: OperationArgs,
}

/// The arguments of `fanfare dead-letters restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Only print how many dead letters it would be
    #[arg(long)]
    dry_run: bool,
}

/// Runs a command about dead letters.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(&args, settings).await,
        Command::Groups(args) => groups::run(&args, settings).await,
        Command::Show(args) => show(&args, settings).await,
        Command::Replay(args) => replay_or_discard(&args, Fate::Replay, settings).await,
        Command::Discard(args) => replay_or_discard(&args, Fate::Discard, settings).await,
        Command::Mend(args) => mend::run(&args, settings).await,
        Command::Restore(args) => restore(&args, settings).await,
    }
}

async fn list(args: &ListArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = &wiring::store(settings, "dead-letters")?;
    let session = wiring::session(settings, "dead-letters").await?;
    let choice = args.choice.choice(&[]);
    let listing = Listing { choice, from: None, until: None, limit: None };
    let (mut shown, mut rows) = (Vec::new(), Vec::new());
    // Keep only what is shown, because there may be many messages, and large ones.
    let operator = operator();
    let stores = Stores { session: &session, store };
    let listed = dead_letters::list(stores, &operator, listing, |letter| {
        if args.json {
            shown.push(serde_json::to_value(view::json(&letter)));
        } else {
            rows.push(show::row(&letter));
        }
    });
    listed.await.map_err(failed)?;
    session.close().await;
    if args.json {
        return output::print_json(&shown.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    output::print(&table::render(&show::HEADINGS, rows))
}

async fn show(args: &ShowArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = &wiring::store(settings, "dead-letters")?;
    let session = wiring::session(settings, "dead-letters").await?;
    let stores = Stores { session: &session, store };
    let found = dead_letters::show(stores, &operator(), args.id.clone()).await;
    let found = found.map_err(failed)?;
    session.close().await;
    let Some(shown) = found else {
        return Err(unknown(&args.id));
    };
    if args.json {
        return output::print_json(&view::json_with_message(&shown));
    }
    output::print(&table::facts(&show::facts(&shown)))?;
    output::print(&format!("\n{}\n", show::body_text(&shown.message)))
}

async fn restore(args: &RestoreArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = &wiring::store(settings, "dead-letters")?;
    let session = wiring::session(settings, "dead-letters").await?;
    let stores = Stores { session: &session, store };
    let restored = dead_letters::restore(stores, &operator(), args.dry_run).await;
    let count = restored.map_err(failed)?;
    session.close().await;
    let done = if args.dry_run { "would restore" } else { "restored" };
    output::print(&format!("{done} {count}\n"))
}

/// The end of a dead letter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replay,
    Discard,
}

async fn replay_or_discard(
    args: &SettleArgs,
    fate: Fate,
    settings: &Settings,
) -> anyhow::Result<()> {
    let choice = args.choice.choice(&args.ids);
    if !args.all && !choice.narrows() {
        let text = "choose dead letters: give ids from `fanfare dead-letters list`, --reason, --webhook, or \
                    --all";
        return Err(Misuse(text.to_owned()).into());
    }
    if args.operation.is_wanted() {
        return bulk::run(args, fate, settings).await;
    }
    let dry_run = args.dry_run;
    let store = &wiring::store(settings, "dead-letters")?;
    let action = match fate {
        Fate::Replay => Action::Replay,
        Fate::Discard => Action::Discard,
    };
    let session = wiring::session(settings, "dead-letters").await?;
    let mut kept = KeptLetters::new(!args.ids.is_empty());
    let request = Request { choice, from: None, until: None, dry_run };
    let stores = Stores { session: &session, store };
    let operator = operator();
    let settled = settle(stores, &operator, action, request, |letter, why| {
        kept.add(&letter.id, why);
    });
    let settled = settled.await;
    kept.report();
    let Outcome { count, missing, .. } = settled.map_err(failed)?;
    session.close().await;
    let done = match (fate, dry_run) {
        (Fate::Replay, false) => "replayed",
        (Fate::Replay, true) => "would replay",
        (Fate::Discard, false) => "discarded",
        (Fate::Discard, true) => "would discard",
    };
    output::print(&format!("{done} {count}\n"))?;
    if !missing.is_empty() {
        bail!(
            "there is no such dead letter: {}; `fanfare dead-letters list` lists them",
            missing.join(", ")
        );
    }
    if kept.named > 0 {
        bail!(
            "{} of {} dead letters can't be replayed; the lines above say why",
            kept.named,
            args.ids.len()
        );
    }
    Ok(())
}

/// The report about letters that can't be replayed: a line for each if ids were given, else only the
/// number for each reason, because there may be many.
struct KeptLetters {
    are_named: bool,
    named: usize,
    others: BTreeMap<&'static str, (u64, &'static str)>,
}

impl KeptLetters {
    fn new(are_named: bool) -> Self {
        Self { are_named, named: 0, others: BTreeMap::new() }
    }

    fn add(&mut self, id: &str, why: Kept) {
        if !self.are_named {
            self.others.entry(why.code()).or_insert((0, reason(why))).0 += 1;
            return;
        }
        self.named += 1;
        let advice = match why {
            Kept::NotReceiving(why) => deliveries::advice(why),
            Kept::Unknown(_) => "; publish its event again".to_owned(),
            Kept::InProgress(_) | Kept::PayloadRemoved(_) | Kept::Unsendable => String::new(),
        };
        output::note(&format!("fanfare: the dead letter {id} is kept: {why}{advice}"));
    }

    fn report(&self) {
        for (count, reason) in self.others.values() {
            output::note(&format!("fanfare: kept {count}: {reason}"));
        }
    }
}

/// The reason for which letters are kept, without the ids of a single letter.
fn reason(why: Kept) -> &'static str {
    match why {
        Kept::NotReceiving(NotReceiving::Paused(_)) => {
            "the webhook is paused; resume it first with `fanfare webhooks resume`"
        }
        Kept::NotReceiving(NotReceiving::Deleted(_)) => {
            "the webhook is deleted; nothing is sent to it any more"
        }
        Kept::Unknown(_) => "the database does not know the delivery; publish its event again",
        Kept::InProgress(_) => "an attempt is being made now; replay it when the attempt has ended",
        Kept::PayloadRemoved(_) => "the payload was removed, so there is nothing to send",
        Kept::Unsendable => "the broker does not accept the message",
    }
}

fn failed(error: Stopped) -> anyhow::Error {
    match error {
        Stopped::Broker(error) => error.into(),
        Stopped::Store(error) => error.into(),
        other @ Stopped::NotAdministrator(_) => other.into(),
    }
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow!("there is no dead letter {id}; `fanfare dead-letters list` lists them")
}
