//! The correction of a dead event in JSON.

use fanfare_core::dead_letter::Letter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::dead_letters::mend::Mended;

/// A dead event that was corrected, or would be.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MendedEvent)]
pub struct Json<'a> {
    /// The id of the dead letter.
    id: &'a str,
    /// The ids of the events in its place.
    events: Vec<&'a str>,
    /// The ids of those that were routed before: routers drop them as duplicates.
    repeated: Vec<&'a str>,
    /// Whether the event was only checked.
    dry_run: bool,
    /// Whether the broker has confirmed the event. If not, a router publishes it within minutes.
    confirmed: bool,
}

/// The correction of a letter in JSON.
#[must_use]
pub fn json<'a>(letter: &'a Letter, mended: &'a Mended, dry_run: bool) -> Json<'a> {
    Json {
        id: &letter.id,
        events: mended.events.iter().map(|event| event.id.as_str()).collect(),
        repeated: mended.repeated.iter().map(|event| event.id.as_str()).collect(),
        dry_run,
        confirmed: mended.confirmed,
    }
}
