//! `fanfare dead-letters`: looked at, published again, or thrown away by a person.

mod choice;
mod replay;
mod show;

use anyhow::{anyhow, bail};
use fanfare_broker::Session;
use fanfare_broker::dead_letters::{DeadLetter, Verdict, walk};

use crate::output::{self, Misuse};
use crate::parts;
use crate::settings::Settings;
use crate::table;
use choice::{Choice, QueueName};
use replay::Replayer;

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

/// The arguments of `fanfare dead-letters list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    choice: Choice,
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
    choice: Choice,
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
    let letters = collect(&session, &args.choice, |_| true).await?;
    session.close().await;
    if args.json {
        let shown = letters.iter().map(|(queue, letter)| show::json(*queue, letter));
        return output::print_json(&shown.collect::<Vec<_>>());
    }
    let rows = letters.iter().map(|(queue, letter)| show::row(*queue, letter));
    output::print(&table::render(&show::HEADINGS, rows))
}

async fn show(args: &ShowArgs, settings: &Settings) -> anyhow::Result<()> {
    let session = parts::session(settings, "dead-letters").await?;
    let found = collect(&session, &Choice::default(), |letter| letter.id == args.id).await?;
    session.close().await;
    let Some((queue, letter)) = found.first() else {
        return Err(unknown(&args.id));
    };
    if args.json {
        return output::print_json(&show::json_with_message(*queue, letter));
    }
    output::print(&table::facts(&show::facts(*queue, letter)))?;
    output::print(&format!("\n{}\n", show::body_text(letter)))
}

/// The chosen letters of which `wanted` says so.
async fn collect(
    session: &Session,
    choice: &Choice,
    wanted: impl Fn(&DeadLetter) -> bool,
) -> anyhow::Result<Vec<(QueueName, DeadLetter)>> {
    let mut letters = Vec::new();
    for queue in choice.queues() {
        walk(session, queue.queue(), async |letter| {
            if choice.takes(letter) && wanted(letter) {
                letters.push((queue, letter.clone()));
            }
            anyhow::Ok(Verdict::Keep)
        })
        .await?;
    }
    Ok(letters)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replay,
    Discard,
}

async fn take(args: &TakeArgs, fate: Fate, settings: &Settings) -> anyhow::Result<()> {
    if args.ids.is_empty() && !args.all && !args.choice.narrows() {
        let text = "say which: ids from `fanfare dead-letters list`, --reason, --webhook, or --all";
        return Err(Misuse(text.to_owned()).into());
    }
    let store = match fate {
        // Only replayed deliveries need the ledger, but better no start than a stop half way.
        Fate::Replay => Some(parts::store(settings, "dead-letters")?),
        Fate::Discard => None,
    };
    let session = parts::session(settings, "dead-letters").await?;
    let replayer = store.map(|store| Replayer::new(session.publisher(), store));
    let mut missing = args.ids.clone();
    let mut count = 0_u64;
    for queue in args.choice.queues() {
        walk(&session, queue.queue(), async |letter| {
            let named = args.ids.is_empty() || args.ids.contains(&letter.id);
            if !named || !args.choice.takes(letter) {
                return anyhow::Ok(Verdict::Keep);
            }
            missing.retain(|id| *id != letter.id);
            if args.dry_run {
                count += 1;
                return Ok(Verdict::Keep);
            }
            if let Some(replayer) = &replayer
                && !replayer.replay(queue, letter).await?
            {
                return Ok(Verdict::Keep);
            }
            count += 1;
            Ok(Verdict::Take)
        })
        .await?;
    }
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
