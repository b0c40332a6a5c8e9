//! The time limit of `/api/v1`. It is shorter than the limit for all requests, so that the answer
//! is a problem of this API.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fanfare_store::cancel_on_drop;
use tokio::time::timeout;

use super::problem::Problem;

const LONGEST: Duration = Duration::from_secs(25);

/// Handles a request within the time limit.
pub(crate) async fn within_time(request: Request, next: Next) -> Response {
    let answer = timeout(LONGEST, cancel_on_drop(next.run(request))).await;
    answer.unwrap_or_else(|_| Problem::TookTooLong.into_response())
}
