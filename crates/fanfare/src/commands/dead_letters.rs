//! `fanfare dead-letters`: looked at, published again, or thrown away by a person.

mod show;

use anyhow::{anyhow, bail};
use fanfare_broker::dead_letters::{Choice, Kind, Look};
use fanfare_console::replay::{Replayed, replay};
use fanfare_console::view::dead_letter as view;
use fanfare_core::ids::WebhookId;

use super::ids;
use crate::output::{self, Misuse};
use crate::parts;
use crate::settings::Settings;
use crate::table;

/// What can be done with dead letters.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List dead letters, the oldest of each queue first
    List(ListArgs),
    /// Show a dead letter with its message
    Show(ShowArgs),
    /// Bring dead letters back into the flow: events are routed again, deliveries attempted again
    Replay(TakeArgs),
    /// Throw dead letters away for good
    Discard(TakeArgs),
}

/// Which dead letters: all, unless something narrows it.
#[derive(Debug, clap::Args)]
pub(crate) struct ChoiceArgs {
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only with this reason, such as unknown-filter or exhausted
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only of this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
}

/// A dead letter queue, as it is called on the command line.
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
        let (reason, webhook) = (self.reason.clone(), self.webhook);
        Choice { ids: ids.to_vec(), kind, reason, webhook }
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
pub(crate) struct TakeArgs {
    /// The dead letters' ids, from the list
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All dead letters
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Only print how many it would be
    #[arg(long)]
    dry_run: bool,
}

/// Runs a command about dead letters.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(&args, settings).await,
        Command::Show(args) => show(&args, settings).await,
        Command::Replay(args) => take(&args, Fate::Replay, settings).await,
        Command::Discard(args) => take(&args, Fate::Discard, settings).await,
    }
}

async fn list(args: &ListArgs, settings: &Settings) -> anyhow::Result<()> {
    let session = parts::session(settings, "dead-letters").await?;
    let mut look = Look::begin(&session, args.choice.choice(&[]), None);
    let (mut shown, mut rows) = (Vec::new(), Vec::new());
    // Only what is shown is kept: the messages themselves may be many and large.
    while let Some((kind, letter)) = look.next().await? {
        if args.json {
            shown.push(serde_json::to_value(view::json(kind, &letter))?);
        } else {
            rows.push(show::row(kind, &letter));
        }
    }
    look.end().await?;
    session.close().await;
    if args.json {
        return output::print_json(&shown);
    }
    output::print(&table::render(&show::HEADINGS, rows))
}

async fn show(args: &ShowArgs, settings: &Settings) -> anyhow::Result<()> {
    let session = parts::session(settings, "dead-letters").await?;
    let choice = Choice { ids: vec![args.id.clone()], ..Choice::default() };
    let mut look = Look::begin(&session, choice, None);
    let found = look.next().await?;
    look.end().await?;
    session.close().await;
    let Some((kind, letter)) = found else {
        return Err(unknown(&args.id));
    };
    if args.json {
        return output::print_json(&view::json_with_message(kind, &letter));
    }
    output::print(&table::facts(&show::facts(kind, &letter)))?;
    output::print(&format!("\n{}\n", show::body_text(&letter)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replay,
    Discard,
}

async fn take(args: &TakeArgs, fate: Fate, settings: &Settings) -> anyhow::Result<()> {
    let choice = args.choice.choice(&args.ids);
    if !args.all && !choice.narrows() {
        let text = "say which: ids from `fanfare dead-letters list`, --reason, --webhook, or --all";
        return Err(Misuse(text.to_owned()).into());
    }
    let store = match fate {
        // Only replayed deliveries need the ledger, but better no start than a stop half way.
        Fate::Replay => Some(parts::store(settings, "dead-letters")?),
        Fate::Discard => None,
    };
    let session = parts::session(settings, "dead-letters").await?;
    let publisher = session.publisher();
    let mut look = Look::begin(&session, choice, None);
    let mut count = 0_u64;
    while let Some((kind, letter)) = look.next().await? {
        if let Some(store) = store.as_ref().filter(|_| !args.dry_run) {
            let kept = match replay(&publisher, store, kind, &letter).await? {
                Replayed::Done => None,
                Replayed::Unknown(id) => Some(format!(
                    "the database does not know the delivery {id}; publish its event again"
                )),
                Replayed::UnderWay(id) => Some(format!("an attempt of {id} is being made now")),
                Replayed::Unsendable => Some("the broker does not take the message".to_owned()),
            };
            if let Some(why) = kept {
                output::note(&format!("fanfare: {why}; its dead letter {} is kept", letter.id));
                continue;
            }
        }
        if !args.dry_run {
            look.take().await?;
        }
        count += 1;
    }
    let missing = look.end().await?;
    session.close().await;
    let done = match (fate, args.dry_run) {
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
    Ok(())
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow!("there is no dead letter {id}; `fanfare dead-letters list` lists them")
}
