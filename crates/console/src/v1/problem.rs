//! The failures of `/api/v1`, as problem details (RFC 9457).
//!
//! Programs decide by `type`, which does not change. `detail` is for people.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_app::dead_letters::Stopped;
use fanfare_app::webhooks::WebhookError;
use fanfare_app::{NotAdministrator, NotReceiving};
use fanfare_broker::BrokerError;
use fanfare_core::chain::chain;
use fanfare_core::duration::seconds_to_wait;
use fanfare_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{
    PROVIDER_UNAVAILABLE, Problem as ApiProblem, RETRY_AFTER_SECONDS, UNAVAILABLE, is_outage,
};
use crate::auth::bearer::BadBearer;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request has neither a session nor an access token.
    Unauthorized,
    /// The access token is not accepted.
    BadBearer(BadBearer),
    /// Only a System Administrator may make the request. The text follows "Only a System
    /// Administrator may".
    Forbidden(&'static str),
    /// The resource does not exist for the caller.
    NotFound(&'static str),
    /// The path does not have the method.
    NoMethod,
    /// The request is not valid.
    Invalid(Vec<FieldError>),
    /// The present state of the resource does not allow the request.
    Conflict(Conflict),
    /// There were too many such requests.
    TooMany {
        /// How long to wait.
        wait: Duration,
    },
    /// The body is too large.
    TooLarge,
    /// The database or the broker can't be reached.
    Unavailable(&'static str),
    /// The request took too long.
    TookTooLong,
    /// An internal error; the log has the cause.
    Internal,
}

/// An error in one part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FieldError)]
pub(crate) struct FieldError {
    /// The name of the parameter or member; empty for the body as a whole.
    pub(crate) name: String,
    /// The error, and what would be valid.
    pub(crate) detail: String,
}

/// Why the present state of a resource does not allow a request.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// The last segment of the `type`.
    pub(crate) code: &'static str,
    /// The meaning of the type.
    pub(crate) title: &'static str,
    /// What to do about it.
    pub(crate) detail: String,
}

/// Problem details (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// The stable name of the kind of problem, such as `/problems/not-found`.
    r#type: String,
    /// The meaning of the type.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened, and what to do about it.
    detail: String,
    /// The errors in parts of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

const PROBLEM_JSON: &str = "application/problem+json";

impl Problem {
    /// Makes the failure of a request with one error.
    pub(crate) fn invalid(name: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { name: name.to_owned(), detail: detail.into() }])
    }

    /// The status, the last part of the `type`, and the title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthorized | Self::BadBearer(_) => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "Not signed in")
            }
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Self::Invalid(_) => {
                (StatusCode::BAD_REQUEST, "invalid-request", "The request is invalid")
            }
            Self::Conflict(conflict) => (StatusCode::CONFLICT, conflict.code, conflict.title),
            Self::TooMany { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large")
            }
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available for now")
            }
            Self::TookTooLong => {
                (StatusCode::SERVICE_UNAVAILABLE, "took-too-long", "The request took too long")
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "An error has occurred")
            }
        }
    }

    /// What happened, and what to do about it.
    fn detail(&self) -> String {
        let text = match self {
            Self::Unauthorized => {
                "Send an access token as 'Authorization: Bearer …': from /Token, or from the \
                 identity provider if one is set up."
            }
            Self::BadBearer(bad) => return format!("The access token is not accepted: {bad}."),
            Self::Forbidden(what) => return format!("Only a System Administrator may {what}."),
            Self::NotFound(what) | Self::Unavailable(what) => what,
            Self::NoMethod => "The path does not support this HTTP method.",
            Self::Invalid(errors) => {
                return errors.iter().map(FieldError::sentence).collect::<Vec<_>>().join(" ");
            }
            Self::Conflict(conflict) => &conflict.detail,
            Self::TooMany { wait } => return format!("Try again in {} s.", seconds_to_wait(*wait)),
            Self::TooLarge => "The body of a request has at most 1 MiB.",
            Self::TookTooLong => "Ask for less, or try again later.",
            Self::Internal => "The log of the service says more.",
        };
        text.to_owned()
    }
}

impl FieldError {
    fn sentence(&self) -> String {
        match self.name.as_str() {
            "" => format!("{}.", self.detail),
            name => format!("{name}: {}.", self.detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let challenge = match self {
            Self::BadBearer(bad) => bad.challenge(),
            _ => HeaderValue::from_static("Bearer"),
        };
        let wait = match self {
            Self::TooMany { wait } => HeaderValue::from(seconds_to_wait(wait)),
            _ => RETRY_AFTER_SECONDS,
        };
        let ((status, code, title), detail) = (self.kind(), self.detail());
        let r#type = format!("/problems/{code}");
        let errors = if let Self::Invalid(errors) = self { errors } else { Vec::new() };
        let body = Body { r#type, title, status: status.as_u16(), detail, errors };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, wait);
            }
            _ => {}
        }
        response
    }
}

/// Answers a request for a path that does not exist.
pub(crate) async fn no_route() -> Problem {
    Problem::NotFound("There is nothing at this path; /api/docs lists what there is.")
}

/// Answers a request with a method that the path does not have.
pub(crate) async fn no_method() -> Problem {
    Problem::NoMethod
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if is_outage(&error) {
            tracing::debug!(error = error.chain(), "answered that the database can't be reached");
            Self::Unavailable(UNAVAILABLE)
        } else if error.is_cancelled() {
            tracing::warn!(error = error.chain(), "a statement took too long");
            Self::TookTooLong
        } else {
            tracing::error!(error = error.chain(), "failed to answer a request");
            Self::Internal
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        tracing::warn!(error = chain(&error), "failed to answer a request");
        Self::Unavailable(BROKER_UNAVAILABLE)
    }
}

impl From<Stopped> for Problem {
    fn from(error: Stopped) -> Self {
        match error {
            Stopped::NotAdministrator(error) => error.into(),
            Stopped::Broker(error) => error.into(),
            Stopped::Store(error) => error.into(),
        }
    }
}

impl From<NotReceiving> for Problem {
    fn from(why: NotReceiving) -> Self {
        let (code, title, detail) = match why {
            NotReceiving::Paused(_) => (
                "webhook-paused",
                "The webhook is paused",
                "The webhook is paused; resume it first.",
            ),
            NotReceiving::Deleted(_) => (
                "webhook-deleted",
                "The webhook is deleted",
                "The webhook is deleted; nothing is sent to it any more.",
            ),
        };
        Self::Conflict(Conflict { code, title, detail: detail.to_owned() })
    }
}

/// The message while the broker can't be reached.
pub(crate) const BROKER_UNAVAILABLE: &str =
    "The service can't reach its message broker for now. Try again later.";

impl From<NotAdministrator> for Problem {
    fn from(_: NotAdministrator) -> Self {
        Self::Forbidden("see what belongs to other users")
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::Store(error) => error.into(),
            WebhookError::NotAdministrator(_) => Self::Forbidden("see the webhooks of other users"),
            WebhookError::Unknown => Self::NotFound(NO_WEBHOOK),
            WebhookError::TooMany { .. }
            | WebhookError::Invalid(_)
            | WebhookError::NotVerified(_) => Self::invalid("", error.to_string()),
        }
    }
}

/// The message for a webhook that does not exist or belongs to another user.
pub(crate) const NO_WEBHOOK: &str = "There is no such webhook.";

impl From<ApiProblem> for Problem {
    fn from(problem: ApiProblem) -> Self {
        match problem {
            ApiProblem::Unauthorized => Self::Unauthorized,
            ApiProblem::BadBearer(bad) => Self::BadBearer(bad),
            ApiProblem::Unavailable => Self::Unavailable(UNAVAILABLE),
            ApiProblem::ProviderUnavailable => Self::Unavailable(PROVIDER_UNAVAILABLE),
            ApiProblem::TooLarge => Self::TooLarge,
            ApiProblem::BrokenOff => Self::invalid("", "the body ended too early"),
            ApiProblem::TookTooLong => Self::TookTooLong,
            other => {
                tracing::error!(?other, "failed to answer a request");
                Self::Internal
            }
        }
    }
}
