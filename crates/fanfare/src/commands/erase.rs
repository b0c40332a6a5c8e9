//! `fanfare erase`: removes the payloads of one user's or one resource's events.

use anyhow::anyhow;
use fanfare_app::clock::rfc3339;
use fanfare_app::dead_letters::Stores;
use fanfare_app::erasure::{Counts, ErasureError, Receipt, Request, erase};
use fanfare_core::erasure::ErasureTarget;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use serde::Serialize;

use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The arguments of `fanfare erase`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// Drop deliveries that have not ended, and events that no router has taken. Without it, such
    /// deliveries and events are a reason to erase nothing
    #[arg(long)]
    drop_pending: bool,
    /// Count only, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Whose payloads are erased.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The user, by the name or the id that events' data has. Erases events whose data names the
    /// user, and the answers of the user's webhooks
    #[arg(long, value_name = "NAME", value_parser = user)]
    user: Option<Name>,
    /// The path of a resource, such as categories/c1/reports/r1 or tasks/t1. Erases the events about
    /// it, and about what is below it
    #[arg(long, value_name = "PATH", value_parser = resource)]
    subject: Option<Resource>,
}

fn user(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).ok_or("a name has 1 to 256 characters, and no control characters")
}

fn resource(text: &str) -> Result<Resource, String> {
    Resource::parse(text).map_err(|reject| reject.detail)
}

/// A receipt as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    user: Option<String>,
    subject: Option<String>,
    dry_run: bool,
    begun_at: String,
    ended_at: String,
    #[serde(flatten)]
    counts: Counts,
}

/// Erases, and prints the receipt.
pub(crate) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let Args { target, drop_pending, dry_run, json } = args;
    let target = match (target.user, target.subject) {
        (Some(name), _) => ErasureTarget::User(name),
        (None, Some(resource)) => ErasureTarget::Resource(resource),
        (None, None) => return Err(anyhow!("name a user or a subject")),
    };
    let store = &wiring::store(settings, "erase")?;
    let session = wiring::session(settings, "erase").await?;
    let stores = Stores { session: &session, store };
    let request = Request { target, dry_run, drop_pending };
    let erased = erase(stores, &operator(), request).await;
    session.close().await;
    let shown = Shown::of(&erased.map_err(failed)?);
    if json {
        return output::print_json(&shown);
    }
    output::print(&table::facts(&shown.facts()))
}

impl Shown {
    fn of(receipt: &Receipt) -> Self {
        let (user, subject) = match &receipt.target {
            ErasureTarget::User(name) => (Some(name.to_string()), None),
            ErasureTarget::Resource(resource) => (None, Some(resource.to_string())),
        };
        Self {
            user,
            subject,
            dry_run: receipt.dry_run,
            begun_at: rfc3339(receipt.begun_at),
            ended_at: rfc3339(receipt.ended_at),
            counts: receipt.counts,
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Counts { events, answers, dead_letters, jobs, waiting, pending } = self.counts;
        let target = match (&self.user, &self.subject) {
            (Some(user), _) => ("User", user.clone()),
            (None, subject) => ("Subject", subject.clone().unwrap_or_default()),
        };
        let what = if self.dry_run { "nothing yet: this was a dry run" } else { "what follows" };
        vec![
            target,
            ("Erased", what.to_owned()),
            ("Events", events.to_string()),
            ("Answers", answers.to_string()),
            ("Dead letters", dead_letters.to_string()),
            ("Jobs", jobs.to_string()),
            ("Messages not yet routed", waiting.to_string()),
            ("Deliveries dropped", pending.to_string()),
            ("Begun", self.begun_at.clone()),
            ("Ended", self.ended_at.clone()),
        ]
    }
}

fn failed(error: ErasureError) -> anyhow::Error {
    match error {
        ErasureError::Broker(error) => error.into(),
        ErasureError::Store(error) => error.into(),
        error @ ErasureError::Owed(_) => anyhow!(
            "nothing was erased: {error}; wait until they have ended, or drop them with --drop-pending"
        ),
        error @ ErasureError::NotAdministrator(_) => error.into(),
    }
}
