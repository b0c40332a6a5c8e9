//! `fanfare notices`: lists the notices about the installation and its webhooks.

use fanfare_app::json::notice as view;
use fanfare_app::notices::{self, NoticeError};
use fanfare_app::{Context, clock};
use fanfare_core::name::Name;
use fanfare_store::notices::{Listed, SendState};

use super::users;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The number of notices that one statement reads.
const PAGE: i64 = 1_000;

/// The headings of the list.
const HEADINGS: [&str; 4] = ["TIME", "TYPE", "SENT", "TEXT"];

/// The commands about notices.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List notices, the newest first
    List(ListArgs),
}

/// The arguments of `fanfare notices list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only notices about this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// The largest number of notices to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Runs a command about notices.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(args, &wiring::context(settings, "notices")?).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let (operator, mut left, mut after) = (operator(), args.limit, None);
    let mut listed = Vec::new();
    while left > 0 {
        let owner = args.owner.clone();
        let page = notices::list(context, &operator, owner, after, left.min(PAGE)).await;
        let page = page.map_err(failed)?;
        left -= i64::try_from(page.notices.len()).unwrap_or(i64::MAX);
        listed.extend(page.notices);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if args.json {
        return output::print_json(&listed.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&HEADINGS, listed.iter().map(row)))
}

fn row(listed: &Listed) -> [String; HEADINGS.len()] {
    let sends = listed.sends.iter().map(|send| match send.state {
        SendState::Sent => send.channel.code().to_owned(),
        SendState::Waiting | SendState::NotSent => {
            format!("{} ({})", send.channel.code(), send.state.code())
        }
    });
    let sent = sends.collect::<Vec<_>>().join(", ");
    let notice = &listed.notice;
    [clock::rfc3339(notice.at), notice.kind.code().to_owned(), sent, notice.sentence()]
}

fn failed(error: NoticeError) -> anyhow::Error {
    match error {
        NoticeError::Store(error) => error.into(),
        other @ NoticeError::NotAdministrator(_) => other.into(),
    }
}
