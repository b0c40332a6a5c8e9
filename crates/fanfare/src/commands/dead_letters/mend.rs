//! `fanfare dead-letters mend`: publishes a corrected event in place of a dead one.

use fanfare_app::Publisher;
use fanfare_app::dead_letters::mend::{self, MendError, Mended, Repeated, Wish};
use fanfare_app::json::mended as view;
use fanfare_core::mend::Fault;

use crate::input;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The arguments of `fanfare dead-letters mend`.
#[derive(Debug, clap::Args)]
pub(crate) struct MendArgs {
    /// The dead letter's id, from the list
    id: String,
    /// The file with the corrected event, or an array of events; - for stdin
    #[arg(long, value_name = "FILE")]
    file: String,
    /// Only check the file
    #[arg(long)]
    dry_run: bool,
    /// Publish although an event with the same source and id was routed before; routers drop it
    #[arg(long)]
    allow_repeated: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Checks the file as a router does, and publishes it.
pub(super) async fn run(args: &MendArgs, settings: &Settings) -> anyhow::Result<()> {
    let text = input::read(&args.file)?;
    let publisher = Publisher::new(wiring::broker(settings, "dead-letters")?);
    let context = wiring::context_with(settings, "dead-letters", publisher)?;
    let operator = operator();
    let original = mend::original(&context, &operator, &args.id).await.map_err(failed)?;
    let wish = match (args.dry_run, args.allow_repeated) {
        (true, _) => Wish::Check,
        (false, false) => Wish::Publish,
        (false, true) => Wish::PublishRepeated,
    };
    let mended = mend::mend(&context, &operator, &original, &text, wish).await;
    let mended = mended.map_err(failed)?;
    note_repeated(&mended.repeated);
    if args.json {
        return output::print_json(&view::json(&original.letter, &mended, args.dry_run));
    }
    output::print(&sentence(&mended, args.dry_run))
}

fn sentence(mended: &Mended, dry_run: bool) -> String {
    let count = mended.events.len();
    let events = if count == 1 { "event" } else { "events" };
    match (dry_run, mended.confirmed) {
        (true, _) => format!("would publish {count} {events}\n"),
        (false, true) => format!("published {count} {events}\n"),
        (false, false) => {
            format!("stored {count} {events}; a router publishes it within minutes\n")
        }
    }
}

fn note_repeated(repeated: &[Repeated]) {
    for event in repeated {
        output::note(&format!("fanfare: {}", event.sentence()));
    }
}

fn failed(error: MendError) -> anyhow::Error {
    match error {
        MendError::Store(error) => error.into(),
        MendError::Faulty(faults) => {
            for fault in faults {
                let place = fault.position.map(|at| format!("event {}: ", at + 1));
                let (place, Fault { code, detail, .. }) = (place.unwrap_or_default(), fault);
                output::note(&format!("fanfare: {place}{detail} ({code})"));
            }
            anyhow::anyhow!("the file can't be published; the lines above say why")
        }
        MendError::Repeated(repeated) => {
            note_repeated(&repeated);
            anyhow::anyhow!("nothing was published; --allow-repeated publishes it all the same")
        }
        other => other.into(),
    }
}
