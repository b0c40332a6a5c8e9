//! `fanfare webhooks import`: from a file, or from the report server itself.

mod server;

use anyhow::anyhow;
use fanfare_app::Context;
use fanfare_app::webhooks::{
    self, Entry, EntryError, EntryPosition, ImportError, Imported, Plan, Verification,
};
use fanfare_core::name::Name;

use super::warn_about_owner;
use crate::commands::users;
use crate::input;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The largest number of entries whose errors are printed. A file with more errors is probably the
/// wrong file.
const MOST_PRINTED: usize = 20;

/// The arguments of `fanfare webhooks import`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ImportArgs {
    /// The file with the answer of `GET /api/webhooks/registrations`, preferably with `?user=all`; `-`
    /// for stdin
    #[arg(required_unless_present = "from_server", conflicts_with = "from_server")]
    file: Option<String>,
    /// Read them from the report server itself, the one that the bridge follows
    #[arg(long)]
    from_server: bool,
    /// A file with the users to sign in as, one JSON object per line with User and Password, or with
    /// User and Token; `-` for stdin. Without it, the bridge's account is used
    #[arg(long, value_name = "FILE", requires = "from_server")]
    logins: Option<String>,
    /// The owner of entries without `User`
    #[arg(long, value_name = "NAME", value_parser = users::name, conflicts_with = "from_server")]
    owner: Option<Name>,
    /// Don't verify the URLs, which must return an echo
    #[arg(long)]
    no_verify: bool,
    /// Print what would be imported, what can't be, and why; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Import the others when some can't be
    #[arg(long)]
    skip_wrong: bool,
    /// Afterwards, pause the imported webhooks at the report server, which would send everything twice
    #[arg(long, requires = "from_server", conflicts_with = "dry_run")]
    pause_old: bool,
}

/// Imports all webhooks of a file or of the report server, or none.
pub(super) async fn import(
    args: &ImportArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<()> {
    let Some(file) = &args.file else { return server::import(args, context, settings).await };
    let text = input::read(file)?;
    let entries = input::entries(&text)?;
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|entry| Entry { line: entry.line, json: entry.raw.get() }).collect();
    let plan = plan(args, context, settings, &entries).await?;
    if args.dry_run {
        return output::print(&shown(&plan, |place| place.to_string()));
    }
    if !plan.wrong.is_empty() && !args.skip_wrong {
        return Err(refuse(&plan.wrong, entries.len(), input::shown(file)));
    }
    carry_out(context, plan).await
}

async fn plan(
    args: &ImportArgs,
    context: &Context,
    settings: &Settings,
    entries: &[Entry<'_>],
) -> anyhow::Result<Plan> {
    // Shadow mode sends no request to receivers. The report server has verified these addresses.
    let skips = args.no_verify || settings.sending.shadow;
    let client = if skips { None } else { Some(wiring::outbound(settings)?) };
    let verification = client.as_ref().map_or(Verification::Skip, Verification::Ask);
    let owner = args.owner.as_ref();
    Ok(webhooks::plan(context, &operator(), entries, owner, verification).await?)
}

async fn carry_out(context: &Context, plan: Plan) -> anyhow::Result<()> {
    let wrong = plan.wrong.len();
    let imported: Result<Imported, ImportError> =
        webhooks::carry_out(context, &operator(), plan).await;
    let Imported { new, known, absent_owners } = imported?;
    for (owner, state) in absent_owners {
        warn_about_owner(&owner, state);
    }
    let left_out = if wrong > 0 { format!("; left out {wrong}") } else { String::new() };
    output::print(&format!("imported {new}; skipped {known} that were here before{left_out}\n"))
}

/// A plan as a table. `name` names an entry.
fn shown(plan: &Plan, name: impl Fn(EntryPosition) -> String) -> String {
    let new = plan.new.iter().map(|(place, webhook)| {
        let paused = if webhook.paused { " (paused)" } else { "" };
        let what = format!("comes{paused}: {} of {}", webhook.uri.as_str(), webhook.owner);
        (*place, what)
    });
    let known = plan.known.iter().map(|place| (*place, "is here already".to_owned()));
    let wrong = plan
        .wrong
        .iter()
        .map(|(place, error)| (*place, format!("can't come: {error}{}", advice(error))));
    let mut rows: Vec<(EntryPosition, String)> = new.chain(known).chain(wrong).collect();
    rows.sort_by_key(|(place, _)| place.number());
    let rows = rows.into_iter().map(|(place, what)| [name(place), what]);
    let table = table::render(&["WEBHOOK", "WHAT WOULD HAPPEN"], rows);
    let (new, known, wrong) = (plan.new.len(), plan.known.len(), plan.wrong.len());
    format!("{table}would import {new}; {known} are here already; {wrong} can't come\n")
}

fn refuse(wrong: &[(EntryPosition, EntryError)], n_entries: usize, file: &str) -> anyhow::Error {
    for (position, error) in wrong.iter().take(MOST_PRINTED) {
        let problem = format!("{position}: {error}{}", advice(error));
        output::note(&format!("fanfare: {}", output::plain(&problem)));
    }
    let n_wrong = wrong.len();
    anyhow!("{n_wrong} of {n_entries} entries of {file} can't be taken; nothing was imported")
}

/// The advice about an invalid entry, to follow its error.
fn advice(error: &EntryError) -> &'static str {
    match error {
        EntryError::NoOwner => "; give --owner NAME",
        EntryError::NotVerified(_) => " (--no-verify skips the verification)",
        _ => "",
    }
}
