//! `fanfare dead-letters groups`: what dead letters have in common.

use fanfare_app::clock::rfc3339;
use fanfare_app::dead_letters;
use fanfare_app::json::dead_letter_group as view;
use fanfare_core::dead_letter::GroupBy;
use fanfare_store::letters::Group;

use super::{ChoiceArgs, failed};
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table::{self, or_dash};
use crate::wiring;

/// The headings of the groups.
const HEADINGS: [&str; 6] = ["COUNT", "VALUE", "OWNER", "FIRST", "LAST", "NOT SENT IF REPLAYED"];

/// The arguments of `fanfare dead-letters groups`.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    /// What the letters of a group have in common: reason, webhook, owner, host, type, status or cause
    #[arg(long, value_name = "PROPERTY", default_value = "reason", value_parser = parse_by)]
    by: GroupBy,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

fn parse_by(text: &str) -> Result<GroupBy, String> {
    let known = GroupBy::ALL.map(GroupBy::name).join(", ");
    GroupBy::parse(text).ok_or_else(|| format!("letters are grouped by {known}"))
}

pub(super) async fn run(args: &GroupsArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "dead-letters")?;
    let choice = args.choice.choice(&[]);
    let found = dead_letters::groups(&store, &operator(), &choice, args.by).await;
    let found = found.map_err(failed)?;
    if args.json {
        return output::print_json(&view::json(args.by, &found));
    }
    output::print(&table::render(&HEADINGS, found.groups.iter().map(row)))
}

fn row(group: &Group) -> [String; HEADINGS.len()] {
    let refused = group.refused;
    let parts = [
        (refused.webhook_deleted, "webhook deleted"),
        (refused.webhook_paused, "webhook paused"),
        (refused.owner_disabled, "owner disabled"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let refused: Vec<String> = parts.map(|(count, why)| format!("{count} {why}")).collect();
    [
        group.count.to_string(),
        or_dash(group.value.as_ref()),
        or_dash(group.owner.as_ref()),
        rfc3339(group.first),
        rfc3339(group.last),
        or_dash(Some(refused.join(", ")).filter(|text| !text.is_empty())),
    ]
}
