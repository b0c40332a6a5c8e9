//! What the report server calls: the verification of the address, and the POST of notifications.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, extract::Request};
use chrono::{DateTime, Utc};
use fanfare_core::chain::chain;
use fanfare_core::signature::{MS_SIGNATURE, verify_ms_signature};
use fanfare_core::webhook::Secret;
use fanfare_metrics::{Bridge, PostResult};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::journal::{Journal, JournalError, Record};
use crate::outbox::journal_state;

/// The largest body, in bytes. Notifications have some KiB.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// The longest time for the journal: the report server sends again what is not answered within a
/// handful of seconds.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// The longest value of `echo`. The report server's have 32 characters.
const LONGEST_ECHO: usize = 128;

/// What the handlers need.
pub(crate) struct Inbound {
    pub(crate) secret: Secret,
    pub(crate) journal: Journal,
    /// The newest directory revision that was published; `None` before the first.
    pub(crate) revision: watch::Receiver<Option<i64>>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Bridge>,
    /// The time of the newest POST that was accepted.
    pub(crate) newest: watch::Sender<Option<DateTime<Utc>>>,
}

/// The routes. `path` is that of the address that is registered at the report server.
pub(crate) fn routes(path: &str, inbound: Inbound) -> Router {
    Router::new()
        .route(path, get(verify).post(receive))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Arc::new(inbound))
}

/// Answers the value of `echo`, by which the report server sees that the address is meant.
async fn verify(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let echo = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "echo");
    match echo {
        Some((_, echo)) if is_echo(&echo) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], echo.into_owned())
                .into_response()
        }
        _ => (StatusCode::BAD_REQUEST, "this is the bridge's address for a report server\n")
            .into_response(),
    }
}

/// Nothing else is sent back to a browser.
fn is_echo(echo: &str) -> bool {
    !echo.is_empty()
        && echo.len() <= LONGEST_ECHO
        && echo.bytes().all(|b| b.is_ascii_alphanumeric())
}

async fn unknown(request: Request) -> Response {
    tracing::warn!(
        path = request.uri().path(),
        "a request to another path than that of FANFARE_BRIDGE_URL"
    );
    (StatusCode::NOT_FOUND, "there is nothing at this path\n").into_response()
}

async fn receive(
    State(inbound): State<Arc<Inbound>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let at = inbound.clock.now();
    if !is_signed(&inbound.secret, &headers, &body) {
        inbound.metrics.post(PostResult::Unsigned, at);
        tracing::warn!("refused a POST without a valid signature");
        let text =
            "the signature is missing or wrong: the report server must use the bridge's secret\n";
        return (StatusCode::UNAUTHORIZED, text.to_owned());
    }
    // A signed body that can't be read is kept, too: it becomes a dead letter.
    let body = match String::from_utf8(body.into()) {
        Ok(body) => body,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let revision = *inbound.revision.borrow();
    let record = Record { at, revision, body };
    let added = timeout(ANSWER_TIME, inbound.journal.add(record)).await;
    inbound.metrics.post(result(&added), at);
    match added {
        Ok(Ok(())) => {
            inbound.metrics.journal(journal_state(&inbound.journal).await);
            inbound.newest.send_replace(Some(at));
            (StatusCode::OK, String::new())
        }
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "refused a POST; the report server tries again");
            (StatusCode::SERVICE_UNAVAILABLE, "the journal does not take it now\n".to_owned())
        }
        Err(_) => {
            tracing::error!("the disk is too slow for the journal; the report server tries again");
            (StatusCode::SERVICE_UNAVAILABLE, "the journal is too slow\n".to_owned())
        }
    }
}

fn result<E>(added: &Result<Result<(), JournalError>, E>) -> PostResult {
    match added {
        Ok(Ok(())) => PostResult::Accepted,
        Ok(Err(JournalError::Full(_))) => PostResult::Full,
        Ok(Err(JournalError::Disk { .. })) | Err(_) => PostResult::Failed,
    }
}

/// Whether exactly one header has the signature of the body, with digits of any case.
fn is_signed(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> bool {
    let mut all = headers.get_all(MS_SIGNATURE).into_iter();
    let (Some(one), None) = (all.next(), all.next()) else { return false };
    let Some((method, digits)) = one.to_str().ok().and_then(|text| text.trim().split_once('='))
    else {
        return false;
    };
    let header = format!("{}={}", method.to_ascii_lowercase(), digits.to_ascii_uppercase());
    verify_ms_signature(secret, body, &header)
}
