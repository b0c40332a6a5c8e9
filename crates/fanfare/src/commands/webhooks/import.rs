//! `fanfare webhooks import`.

use anyhow::anyhow;
use fanfare_app::Context;
use fanfare_app::webhooks::{
    self, Entry, EntryError, EntryPosition, ImportError, Imported, Verification,
};
use fanfare_core::name::Name;

use super::warn_about_owner;
use crate::commands::users;
use crate::input;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The largest number of entries whose errors are printed. A file with more errors is probably the
/// wrong file.
const MOST_PRINTED: usize = 20;

/// The arguments of `fanfare webhooks import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file with the answer of `GET /api/webhooks/registrations`, preferably with `?user=all`; `-`
    /// for stdin
    file: String,
    /// The owner of entries without `User`
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Don't verify the URLs, which must return an echo
    #[arg(long)]
    no_verify: bool,
}

/// Imports all webhooks of a file, or none.
pub(super) async fn import(
    args: &ImportArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<()> {
    let text = input::read(&args.file)?;
    let entries = input::entries(&text)?;
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|entry| Entry { line: entry.line, json: entry.raw.get() }).collect();
    let client = if args.no_verify { None } else { Some(wiring::outbound(settings)?) };
    let verification = client.as_ref().map_or(Verification::Skip, Verification::Ask);
    let (actor, owner) = (&operator(), args.owner.as_ref());
    let imported = webhooks::import(context, actor, &entries, owner, verification).await;
    let Imported { new, known, absent_owners } = imported.map_err(|error| match error {
        ImportError::Entries(wrong) => refuse(&wrong, entries.len(), input::shown(&args.file)),
        ImportError::Store(error) => error.into(),
        other @ ImportError::NotAdministrator(_) => other.into(),
    })?;
    for (owner, state) in absent_owners {
        warn_about_owner(&owner, state);
    }
    output::print(&format!("imported {new}; skipped {known} that were here before\n"))
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
