//! `fanfare audit`: lists who did what, when, by which door and from where.

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_app::audit::{self, AuditError};
use fanfare_app::json::audit as view;
use fanfare_app::{Context, clock};
use fanfare_core::audit::Action;
use fanfare_core::duration;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_store::audit::{AuditFilter, AuditRecord};
use serde_json::{Map, Value};

use super::{ids, users};
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table::{self, or_dash};
use crate::wiring;

/// The number of entries that one statement reads.
const PAGE: i64 = 1_000;

/// The headings of the list.
const HEADINGS: [&str; 7] = ["TIME", "ACTOR", "DOOR", "FROM", "ACTION", "OBJECT", "CHANGE"];

/// The commands about the audit trail.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the entries of the audit trail, the newest first
    List(ListArgs),
}

/// The arguments of `fanfare audit list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only entries that concern this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only entries that concern this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Only entries about this local account
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    account: Option<Name>,
    /// Only what the user with this name did
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    actor: Option<Name>,
    /// Only entries with this action, such as webhook.paused
    #[arg(long, value_name = "CODE", value_parser = action)]
    action: Option<Action>,
    /// Only entries of this time or later: a time such as 2026-11-23T10:00:00Z, or a duration before
    /// now such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only entries before this time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// The largest number of entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

fn action(code: &str) -> Result<Action, String> {
    let known: Vec<&str> = Action::ALL.iter().map(|action| action.code()).collect();
    Action::parse(code).ok_or_else(|| format!("the actions are {}", known.join(", ")))
}

/// Reads a time, or a duration before now.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let wrong = || "write it as 2026-11-23T10:00:00Z, or as 30m, 12h or 7d before now".to_owned();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let before = duration::parse(text).ok_or_else(wrong)?.min(duration::LONGEST);
    let before = TimeDelta::from_std(before).map_err(|_| wrong())?;
    clock::now().checked_sub_signed(before).ok_or_else(wrong)
}

/// Runs a command about the audit trail.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(args, &wiring::context(settings, "audit")?).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let mut filter = AuditFilter {
        owner: args.owner,
        webhook: args.webhook,
        account: args.account,
        actor: args.actor,
        action: args.action,
        since: args.since,
        until: args.until,
        ..AuditFilter::default()
    };
    let (operator, mut left) = (operator(), args.limit);
    let mut entries = Vec::new();
    while left > 0 {
        filter.limit = left.min(PAGE);
        let page = audit::list(context, &operator, filter.clone()).await.map_err(failed)?;
        left -= i64::try_from(page.entries.len()).unwrap_or(i64::MAX);
        entries.extend(page.entries);
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    if args.json {
        return output::print_json(&entries.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&HEADINGS, entries.iter().map(row)))
}

fn row(entry: &AuditRecord) -> [String; HEADINGS.len()] {
    let (kind, id) = &entry.object;
    [
        clock::rfc3339(entry.position.at),
        or_dash(entry.actor.as_deref()),
        entry.door.clone(),
        or_dash(entry.address.as_deref()),
        entry.action.clone(),
        format!("{kind} {id}"),
        change(entry.before.as_ref(), entry.after.as_ref()),
    ]
}

/// What changed, as `member: before -> after`.
fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    let nothing = Map::new();
    let members = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let (before, after) = (members(before), members(after));
    let (before, after) = (before.as_ref().unwrap_or(&nothing), after.as_ref().unwrap_or(&nothing));
    let only_after = after.keys().filter(|name| !before.contains_key(*name));
    let one = |name: &String| match (before.get(name), after.get(name)) {
        (Some(old), Some(new)) => format!("{name}: {old} -> {new}"),
        (old, new) => {
            format!("{name}: {}", old.or(new).map_or_else(String::new, ToString::to_string))
        }
    };
    before.keys().chain(only_after).map(one).collect::<Vec<_>>().join(", ")
}

fn failed(error: AuditError) -> anyhow::Error {
    match error {
        AuditError::Store(error) => error.into(),
        other @ AuditError::NotAdministrator(_) => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_is_absolute_or_before_now() {
        assert_eq!(time("2026-11-23T11:00:00+01:00").unwrap().timestamp(), 1_795_428_000);
        let hours = (clock::now() - time("2h").unwrap()).num_minutes();
        assert!((119..=121).contains(&hours), "{hours}");
        for wrong in ["", "yesterday", "5", "2026-11-23"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        assert!(time("99999d").is_ok());
    }

    #[test]
    fn a_change_has_both_sides() {
        let (before, after) = (json!({ "paused": false }), json!({ "paused": true, "count": 3 }));
        assert_eq!(change(Some(&before), Some(&after)), "paused: false -> true, count: 3");
        assert_eq!(change(Some(&before), None), "paused: false");
        assert_eq!(change(None, None), "");
    }
}
