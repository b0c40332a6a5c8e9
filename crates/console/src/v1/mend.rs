//! `/api/v1/dead-letters/{id}/mend`: publish a corrected event in place of a dead one.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::dead_letters::mend::{self, MendError, Wish};
use fanfare_app::json::mended as view;
use fanfare_core::mend::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::problem::{Conflict, FieldError, Problem};
use super::request::{Administrator, Id, members};
use crate::api::json::json;
use crate::app::Shared;

/// A corrected event.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = MendedEventRequest)]
pub(crate) struct Correction {
    /// The event in structured mode, or an array of events.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
    /// Check the event without publishing it.
    #[serde(default)]
    dry_run: bool,
    /// Publish although an event with the same source and id was routed before. Routers drop such an event
    /// as a duplicate.
    #[serde(default)]
    allow_repeated: bool,
}

/// Publish a corrected event in place of a dead one.
///
/// For System Administrators. The event is checked as a router checks it. The dead letter is settled as
/// replayed, and its message stays in the database for a while. An event whose source and id were routed
/// before is published with `allowRepeated` only.
#[utoipa::path(
    post,
    path = "/dead-letters/{id}/mend",
    tag = "Dead letters",
    request_body = Correction,
    responses(
        (status = 200, description = "The event is published, or is valid.", body = view::Json<'static>),
        (status = 400),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn mend(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Id(id): Id<String>,
    body: Body,
) -> Result<Response, Problem> {
    let Correction { event, dry_run, allow_repeated } = members(body).await?;
    let wish = match (dry_run, allow_repeated) {
        (true, _) => Wish::Check,
        (false, false) => Wish::Publish,
        (false, true) => Wish::PublishRepeated,
    };
    let original = mend::original(&app.context, &actor, &id).await?;
    let mended = mend::mend(&app.context, &actor, &original, event.get(), wish).await?;
    Ok(json(StatusCode::OK, &view::json(&original.letter, &mended, dry_run)))
}

impl From<MendError> for Problem {
    fn from(error: MendError) -> Self {
        match error {
            MendError::NotAdministrator(error) => error.into(),
            MendError::Unknown => {
                Self::NotFound("There is no such dead letter, or it was replayed or discarded.")
            }
            MendError::Delivery | MendError::OnlyInQueue => Self::Conflict(Conflict {
                code: "not-mendable",
                title: "The letter can't be mended",
                detail: error.to_string(),
            }),
            MendError::Repeated(_) => Self::Conflict(Conflict {
                code: "already-routed",
                title: "The event was routed before",
                detail: error.to_string(),
            }),
            MendError::Faulty(faults) => Self::Invalid(faults.iter().map(field).collect()),
            MendError::Unsendable(_) => Self::invalid("event", error.to_string()),
            MendError::Store(error) => error.into(),
        }
    }
}

fn field(fault: &Fault) -> FieldError {
    let name = fault.position.map_or_else(|| "event".to_owned(), |at| format!("event[{at}]"));
    FieldError { name, detail: format!("{} ({})", fault.detail, fault.code) }
}
