//! `fanfare dead-letters replay|discard` as a bulk operation, which goes on when the command is ended.

use anyhow::bail;
use fanfare_app::operations::{self, Plan, Request};
use fanfare_core::operation::{Kind, State};

use super::{Fate, SettleArgs};
use crate::commands::operations::{OperationArgs, failed, follow};
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// Begins an operation, and follows it to its end.
pub(super) async fn run(args: &SettleArgs, fate: Fate, settings: &Settings) -> anyhow::Result<()> {
    let context = wiring::context(settings, "dead-letters")?;
    let operator = operator();
    let kind = match fate {
        Fate::Replay => Kind::Replay,
        Fate::Discard => Kind::Discard,
    };
    let choice = args.choice.choice(&args.ids);
    if args.dry_run {
        let plan = operations::plan(&context, &operator, kind, &choice).await.map_err(failed)?;
        return print_plan(fate, &plan);
    }
    let session = wiring::session(settings, "dead-letters").await?;
    let OperationArgs { rate, canary, note } = &args.operation;
    let note = note.clone().unwrap_or_default();
    let request = Request { kind, choice, note, rate: *rate, canary: *canary };
    let begun = operations::begin(&context, &operator, &request).await.map_err(failed)?;
    output::note(&format!(
        "fanfare: operation {} on {} letters",
        begun.id.simple(),
        begun.counts.total
    ));
    let ended = follow::follow(&context.store, &session, begun.id).await?;
    session.close().await;
    for (why, letters) in &ended.counts.refused {
        output::note(&format!("fanfare: kept {letters}: {why}"));
    }
    let done = match fate {
        Fate::Replay => "replayed",
        Fate::Discard => "discarded",
    };
    output::print(&format!("{done} {}\n", ended.counts.settled))?;
    if ended.state == State::Stopped {
        bail!(
            "receivers failed again, so letters are kept; `fanfare operations show` has the counts"
        );
    }
    Ok(())
}

fn print_plan(fate: Fate, plan: &Plan) -> anyhow::Result<()> {
    for (why, letters) in &plan.keep {
        output::note(&format!("fanfare: would keep {letters}: {why}"));
    }
    let would = match fate {
        Fate::Replay => "would replay",
        Fate::Discard => "would discard",
    };
    output::print(&format!("{would} {}\n", plan.settle))
}
