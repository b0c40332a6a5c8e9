//! The layer around every handler: a time limit, headers that keep browsers from doing more with an
//! answer than showing it, and a line in the log.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fanfare_store::cancel_on_drop;
use tokio::time::timeout;

use crate::api::problem::Problem;

/// The longest time from the head of a request to the head of its answer. The verification of an
/// address takes up to 10 s of it.
const LONGEST: Duration = Duration::from_secs(30);

/// The headers of every answer that does not have them already.
const HEADERS: [(HeaderName, &str); 6] = [
    // Answers hold secrets.
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Handles a request within its time limit, adds the headers to the answer, and logs both.
pub(crate) async fn every_answer(request: Request, next: Next) -> Response {
    let since = Instant::now();
    let method = request.method().clone();
    // Queries and headers are not logged, because people put tokens there.
    let path = request.uri().path().to_owned();
    let mut response = timeout(LONGEST, cancel_on_drop(next.run(request)))
        .await
        .unwrap_or_else(|_| Problem::TookTooLong.into_response());
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status, duration_ms, "answered a request");
    response
}
