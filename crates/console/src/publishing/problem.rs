//! The failures of `POST /events`, as problem details (RFC 9457).
//!
//! Programs decide by `status` and `reason`. A `reason` is a stable code, the one that the dead
//! letter of the same event has if it comes by AMQP.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_app::publishing::{PublishingError, RefusedEvent, Unconfirmed};
use fanfare_core::duration::seconds_to_wait;
use fanfare_core::event::{BATCH_CONTENT_TYPE, CONTENT_TYPE, MAX_MESSAGE};
use fanfare_core::reject::{Reason, Reject};
use fanfare_metrics::{Console as Metrics, Unconfirmed as Cause};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::RETRY_AFTER_SECONDS;
use crate::v1::problem::Problem as SharedProblem;

/// Why a request published nothing.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request has no access token.
    Unauthorized,
    /// No publisher has this token.
    UnknownToken,
    /// There were too many wrong tokens.
    TooMany {
        /// How long to wait.
        wait: Duration,
    },
    /// The path has no such method.
    NoMethod,
    /// The content type can't be that of an event.
    MediaType(String),
    /// The body is declared to have a form that is not read here.
    UnsupportedForm(Reject),
    /// The message is refused.
    Refused(Reject),
    /// Every event of the batch is refused.
    BatchRefused(Vec<RefusedEvent>),
    /// The body did not arrive in time.
    BodyTooSlow,
    /// Too many requests are being answered.
    Busy,
    /// The broker has not confirmed the message.
    Unconfirmed(Unconfirmed),
    /// A failure that `/api/v1` has too, such as that of the database.
    Shared(SharedProblem),
}

/// Problem details (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = PublishingProblem)]
pub(crate) struct ProblemBody {
    /// The stable name of the kind of problem, such as `/problems/unknown-filter`.
    r#type: String,
    /// The meaning of the type.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and what to do about it.
    detail: String,
    /// The stable code for which the message was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The refused events of a batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedBody>,
}

/// An event of a batch that was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedEvent)]
pub(crate) struct RefusedBody {
    /// Its position in the batch, from zero.
    index: usize,
    /// The stable code of the reason.
    reason: &'static str,
    /// What is wrong, and what to do about it.
    detail: String,
}

impl Problem {
    pub(super) fn too_many(wait: Duration) -> Self {
        Self::TooMany { wait }
    }

    pub(super) fn too_large() -> Self {
        let detail = format!("the body has more than {MAX_MESSAGE} bytes, the limit of a message");
        Self::Refused(Reject::new(Reason::TooLarge, detail))
    }

    pub(super) fn media_type() -> Self {
        Self::MediaType(format!(
            "The request has neither a content type of an event nor headers ce-…; send one event as \
             {CONTENT_TYPE}, several as {BATCH_CONTENT_TYPE}, or the attributes as headers ce-…."
        ))
    }

    /// Counts and logs the failure of a publisher's request.
    pub(super) fn record(&self, metrics: &Metrics, publisher: &str) {
        match self {
            Self::Refused(reject) | Self::UnsupportedForm(reject) => {
                record(metrics, publisher, [reject]);
            }
            Self::BatchRefused(refused) => {
                record(metrics, publisher, refused.iter().map(|refused| &refused.reject));
            }
            Self::Unconfirmed(why) => metrics.unconfirmed(match why {
                Unconfirmed::Unavailable => Cause::Unavailable,
                Unconfirmed::Unroutable => Cause::Unroutable,
                Unconfirmed::NotTaken => Cause::NotTaken,
                Unconfirmed::Unknown => Cause::Unknown,
            }),
            _ => {}
        }
    }

    /// The status, the last part of the `type`, and the title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthorized | Self::UnknownToken => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "Not authorized")
            }
            Self::TooMany { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many wrong tokens")
            }
            Self::NoMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Self::MediaType(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body has a form that is not supported",
            ),
            Self::UnsupportedForm(reject) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reject.reason.code(),
                "The body has a form that is not supported",
            ),
            Self::Refused(reject) => {
                (status(reject.reason), reject.reason.code(), "The event is refused")
            }
            Self::BatchRefused(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "batch-refused",
                "Every event of the batch is refused",
            ),
            Self::BodyTooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "body-too-slow", "The body did not arrive in time")
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests at a time"),
            Self::Unconfirmed(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not-confirmed", "The broker has not confirmed")
            }
            Self::Shared(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "An error has occurred")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => {
                "Send the token of a publisher account as 'Authorization: Bearer \
                                   …'; `fanfare publishers add` makes one."
                    .to_owned()
            }
            Self::UnknownToken => {
                "No publisher has this token. It may have been revoked; `fanfare publishers list` \
                 shows the accounts."
                    .to_owned()
            }
            Self::TooMany { wait } => format!("Try again in {} s.", seconds_to_wait(*wait)),
            Self::NoMethod => "Events are published with POST.".to_owned(),
            Self::MediaType(detail) => detail.clone(),
            Self::UnsupportedForm(reject) | Self::Refused(reject) => reject.detail.clone(),
            Self::BatchRefused(refused) => {
                format!("All {} events of the batch are refused.", refused.len())
            }
            Self::BodyTooSlow => "Send the body at once, or in smaller batches.".to_owned(),
            Self::Busy => "Send fewer requests at a time, and this one again later.".to_owned(),
            Self::Unconfirmed(why) => {
                format!("The events are not accepted: {why}. Send the same request again later.")
            }
            Self::Shared(_) => "The log of the service says more.".to_owned(),
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::UnsupportedForm(reject) | Self::Refused(reject) => Some(reject.reason.code()),
            _ => None,
        }
    }

    fn refused(self) -> Vec<RefusedBody> {
        match self {
            Self::BatchRefused(refused) => refused.into_iter().map(RefusedBody::from).collect(),
            _ => Vec::new(),
        }
    }

    /// The header that says how to go on.
    fn hint(&self) -> Option<(header::HeaderName, HeaderValue)> {
        let unknown = "Bearer error=\"invalid_token\", \
                       error_description=\"no publisher has this token\"";
        match self {
            Self::Unauthorized => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            Self::UnknownToken => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(unknown)))
            }
            Self::TooMany { wait } => {
                Some((header::RETRY_AFTER, HeaderValue::from(seconds_to_wait(*wait))))
            }
            Self::Busy | Self::Unconfirmed(_) => Some((header::RETRY_AFTER, RETRY_AFTER_SECONDS)),
            _ => None,
        }
    }
}

/// Counts refused events, and logs the first of them.
pub(super) fn record<'a>(
    metrics: &Metrics,
    publisher: &str,
    refused: impl IntoIterator<Item = &'a Reject>,
) {
    let (mut events, mut first) = (0, None);
    for reject in refused {
        metrics.refused(reject.reason);
        events += 1;
        first = first.or(Some(reject));
    }
    if let Some(Reject { reason, detail }) = first {
        let reason = reason.code();
        tracing::warn!(publisher, events, reason, detail, "refused events over HTTP");
    }
}

/// The status for a reason: what is no event, what is too large, and what is not valid otherwise.
fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::NotJson | Reason::NotCloudEvents => StatusCode::BAD_REQUEST,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl From<RefusedEvent> for RefusedBody {
    fn from(RefusedEvent { position, reject }: RefusedEvent) -> Self {
        Self { index: position, reason: reject.reason.code(), detail: reject.detail }
    }
}

impl From<PublishingError> for Problem {
    fn from(error: PublishingError) -> Self {
        match error {
            PublishingError::Refused(reject) => Self::Refused(reject),
            PublishingError::BatchRefused(refused) => Self::BatchRefused(refused),
            PublishingError::Unconfirmed(why) => Self::Unconfirmed(why),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Self::Shared(problem) = self {
            return problem.into_response();
        }
        let ((status, code, title), detail) = (self.kind(), self.detail());
        let (reason, hint) = (self.reason(), self.hint());
        let r#type = format!("/problems/{code}");
        let refused = self.refused();
        let body = ProblemBody { r#type, title, status: status.as_u16(), detail, reason, refused };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some((name, value)) = hint {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
