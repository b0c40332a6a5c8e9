//! `/api/v1/storage`: what the database holds, and when its disk will be full.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::json::storage as view;
use fanfare_app::storage::{self, StorageError};

use super::problem::Problem;
use super::request::Administrator;
use crate::api::json::json;
use crate::app::Shared;

/// Show the sizes of what the database holds, their growth, and the day on which the disk will be full.
///
/// For System Administrators.
#[utoipa::path(
    get,
    path = "/storage",
    tag = "Storage",
    responses(
        (status = 200, description = "The sizes.", body = view::Json),
        (status = 403),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
) -> Result<Response, Problem> {
    let shown = storage::show(&app.context, &actor, app.storage).await?;
    Ok(json(StatusCode::OK, &view::json(&shown)))
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotAdministrator(error) => error.into(),
            StorageError::Store(error) => error.into(),
        }
    }
}
