//! The failures of the drop-in API, with their statuses and bodies.
//!
//! Bodies are `{"Message": …}`, as in the report server's own API. `api::token` has OAuth errors
//! instead.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_app::webhooks::WebhookError;
use fanfare_core::registration::{Malformed, RegistrationError};
use fanfare_store::StoreError;
use serde::Serialize;
use serde_json::{Map, Value};

use super::json::json;
use crate::auth::bearer::BadBearer;

/// The message while the database can't be reached.
pub(crate) const UNAVAILABLE: &str =
    "The service can't reach its database for now. Try again later.";
/// The message while the identity provider can't be reached.
pub(crate) const PROVIDER_UNAVAILABLE: &str =
    "The service can't reach the identity provider for now. Try again later.";
/// The `Retry-After` of such answers, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request has neither a session nor an access token.
    Unauthorized,
    /// The access token is not accepted.
    BadBearer(BadBearer),
    /// The identity provider can't be reached, so its token can't be checked.
    ProviderUnavailable,
    /// Only a System Administrator may make the request.
    NotAdministrator,
    /// The webhook does not exist for the caller.
    Unknown,
    /// The webhook was not registered, for this reason.
    NotRegistered(String),
    /// The body can't be read.
    Malformed(Malformed),
    /// The body is too large.
    TooLarge,
    /// The body ended before it was complete.
    BrokenOff,
    /// The request took too long.
    TookTooLong,
    /// The database can't be reached.
    Unavailable,
    /// An internal error; the log has the cause.
    Internal,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_state: Option<Map<String, Value>>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => denied(HeaderValue::from_static("Bearer")),
            Self::BadBearer(bad) => denied(bad.challenge()),
            Self::ProviderUnavailable => try_later(PROVIDER_UNAVAILABLE),
            Self::NotAdministrator => message(
                StatusCode::FORBIDDEN,
                "Only a System Administrator may see the WebHooks of other users.",
            ),
            Self::Unknown => StatusCode::NOT_FOUND.into_response(),
            Self::NotRegistered(reason) => message(
                StatusCode::BAD_REQUEST,
                format!("Could not register WebHook due to error: {reason}"),
            ),
            Self::Malformed(malformed) => {
                let message = "The request is invalid.".to_owned();
                let model_state = Some(malformed.model_state());
                json(StatusCode::BAD_REQUEST, &Body { message, model_state })
            }
            Self::TooLarge => message(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request is too large: its body has at most 1 MiB.",
            ),
            Self::BrokenOff => {
                message(StatusCode::BAD_REQUEST, "The request's body ended too early.")
            }
            Self::TookTooLong => try_later("The request took too long. Try again later."),
            Self::Unavailable => try_later(UNAVAILABLE),
            Self::Internal => message(
                StatusCode::INTERNAL_SERVER_ERROR,
                "An error has occurred; the log of the service says more.",
            ),
        }
    }
}

/// Answers a request for a path that does not exist.
pub(crate) fn no_route() -> Response {
    message(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

/// Answers a request with a method that the path does not have. The router adds the methods that it
/// has.
pub(crate) async fn no_method() -> Response {
    message(StatusCode::METHOD_NOT_ALLOWED, "The path does not support this HTTP method.")
}

fn denied(challenge: HeaderValue) -> Response {
    let text = "Authorization has been denied for this request.";
    let mut response = message(StatusCode::UNAUTHORIZED, text);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn message(status: StatusCode, message: impl Into<String>) -> Response {
    json(status, &Body { message: message.into(), model_state: None })
}

fn try_later(text: &str) -> Response {
    let mut response = message(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

/// Whether a later request may succeed, even if a person has to repair the database first.
pub(crate) fn is_outage(error: &StoreError) -> bool {
    let may_be = matches!(
        error,
        StoreError::Connect(_)
            | StoreError::Misconfigured { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Statement { .. }
    );
    may_be && !error.is_refusal() && !error.is_cancelled()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let chain = error.chain();
        if is_outage(&error) {
            // An outage of the database is logged once, by the task that waits for its end.
            tracing::debug!(error = chain, "answered that the database can't be reached");
            Self::Unavailable
        } else if error.is_cancelled() {
            tracing::warn!(error = chain, "a statement took too long");
            Self::TookTooLong
        } else {
            tracing::error!(error = chain, "failed to answer a request");
            Self::Internal
        }
    }
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Malformed(malformed) => Self::Malformed(malformed),
            other => Self::NotRegistered(other.to_string()),
        }
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::NotAdministrator(_) => Self::NotAdministrator,
            WebhookError::Unknown => Self::Unknown,
            WebhookError::Invalid(error) => error.into(),
            error @ WebhookError::TooMany { .. } => Self::NotRegistered(error.to_string()),
            WebhookError::NotVerified(error) => Self::NotRegistered(error.to_string()),
            WebhookError::Store(error) => error.into(),
        }
    }
}
