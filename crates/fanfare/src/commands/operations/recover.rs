//! `fanfare operations recover`: sends what webhooks missed, as an operation that goes on when the command is
//! ended.

use anyhow::bail;
use chrono::{DateTime, Utc};
use fanfare_app::Context;
use fanfare_app::operations::{self, Plan, Request};
use fanfare_core::dead_letter::Choice;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::operation::{Kind, State};

use super::{OperationArgs, failed, follow, print};
use crate::commands::{audit, ids, users};
use crate::operator::operator;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::wiring;

/// The arguments of `fanfare operations recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// Only what this webhook missed
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only what this user's webhooks missed
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// What all webhooks missed
    #[arg(long, conflicts_with_all = ["webhook", "owner"])]
    all: bool,
    /// Only events received, and deliveries dropped, at this time or later: a time such as
    /// 2026-11-23T10:00:00Z, or a duration before now such as 2h or 7d
    #[arg(long, value_name = "TIME", required = true, value_parser = audit::time)]
    since: DateTime<Utc>,
    /// Only those before this time, in the same forms; now when left out
    #[arg(long, value_name = "TIME", value_parser = audit::time)]
    until: Option<DateTime<Utc>>,
    /// Only print how many deliveries it would be, and how many are left out by which reason
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    operation: OperationArgs,
    /// Print a JSON object: the operation when it has ended, or the counts of a dry run
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: &RecoverArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<()> {
    let RecoverArgs { webhook, ref owner, all, since, until, .. } = *args;
    if webhook.is_none() && owner.is_none() && !all {
        bail!(Misuse("say --webhook, --owner or --all".to_owned()));
    }
    let owner = owner.clone();
    let choice = Choice { webhook, owner, since: Some(since), until, ..Choice::default() };
    let (operator, kind) = (operator(), Kind::Recover);
    if args.dry_run {
        let plan = operations::plan(context, &operator, kind, &choice).await.map_err(failed)?;
        return print_plan(&plan, args.json);
    }
    let session = wiring::session(settings, "operations").await?;
    let OperationArgs { rate, canary, note } = &args.operation;
    let note = note.clone().unwrap_or_default();
    let request = Request { kind, choice, note, rate: *rate, canary: *canary };
    let begun = operations::begin(context, &operator, &request).await.map_err(failed)?;
    output::note(&format!("fanfare: operation {}", begun.id.simple()));
    let ended = follow::follow(&context.store, &session, begun.id).await?;
    session.close().await;
    if args.json {
        print(&ended, true)?;
    } else {
        for (why, deliveries) in &ended.counts.refused {
            output::note(&format!("fanfare: left out {deliveries}: {why}"));
        }
        output::print(&format!("recovered {}\n", ended.counts.settled))?;
    }
    if ended.state == State::Stopped {
        bail!(
            "receivers failed, so the rest is left out; `fanfare operations show` has the counts"
        );
    }
    Ok(())
}

fn print_plan(plan: &Plan, json: bool) -> anyhow::Result<()> {
    if json {
        return output::print_json(&serde_json::json!({
            "count": plan.settle, "dryRun": true, "kept": plan.keep,
        }));
    }
    for (why, deliveries) in &plan.keep {
        output::note(&format!("fanfare: would leave out {deliveries}: {why}"));
    }
    output::print(&format!("would recover {}\n", plan.settle))
}
