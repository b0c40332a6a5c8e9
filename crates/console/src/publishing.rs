//! `POST /events`: publishing for report servers that can make an HTTP request and don't speak AMQP.
//! It is the HTTP protocol binding of `CloudEvents` 1.0.2, in all of its content modes.
//!
//! [`account`] identifies the publisher, [`message`] translates the request into the message that a
//! publisher on AMQP would send, `fanfare_app::publishing` checks and publishes it, and [`problem`]
//! has all failures. Without a publisher account, every request is refused.

mod account;
mod message;
mod problem;
pub(crate) mod state;

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_app::publishing::{self, Accepted};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api::body;
use crate::api::json::json;
use crate::api::problem::Problem as BodyProblem;
use crate::app::{App, Shared};
use account::Account;
use problem::{Problem, ProblemBody, RefusedBody};

/// How long a client may take to send the body. 1 MiB takes that long at 0.8 Mbit/s.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What became of the events in a request.
#[derive(Serialize, ToSchema)]
#[schema(as = Published)]
pub(crate) struct PublishedBody {
    /// The number of events and directory documents that the broker has confirmed.
    accepted: usize,
    /// The events of a batch that were refused. They are dead letters.
    refused: Vec<RefusedBody>,
}

/// Publish events.
///
/// The request is a `CloudEvent` or a batch of them, as in the HTTP protocol binding of `CloudEvents`
/// 1.0, in structured, batched or binary mode: in binary mode the attributes are the headers `ce-…`,
/// and the body is the data. The answer is sent after the message broker has stored the events. After
/// a 503, or without an answer, send the request again with the same `source` and `id`: an event that
/// arrives twice is delivered once.
///
/// The token is that of a publisher account, from `fanfare publishers add`.
#[utoipa::path(
    post,
    path = "/events",
    tag = "Publishing",
    security(("publisher" = [])),
    request_body(content(
        (Value = "application/cloudevents+json"),
        (Vec<Value> = "application/cloudevents-batch+json"),
        (Value = "application/json"),
    )),
    responses(
        (status = 202, description = "The broker has stored the events.", body = PublishedBody),
        (status = 400, description = "The body is not a CloudEvent.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "There is no publisher with this token.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "A limit is exceeded.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body has a form that is not supported.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The events are refused.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "There were too many wrong tokens.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The broker has not stored the events; send them again.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn publish(
    State(app): State<Shared>,
    Account(publisher): Account,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    match take(&app, &headers, body).await {
        Ok(accepted) => {
            app.metrics.accepted(accepted.events);
            let refused = accepted.refused.iter().map(|refused| &refused.reject);
            problem::record(&app.metrics, &publisher, refused);
            tracing::debug!(publisher, events = accepted.events, "accepted events over HTTP");
            Ok(json(StatusCode::ACCEPTED, &PublishedBody::from(accepted)))
        }
        Err(problem) => {
            problem.record(&app.metrics, &publisher);
            Err(problem)
        }
    }
}

/// Reads a request and publishes its events.
async fn take(app: &App, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    let _turn = app.publishing.turn().await?;
    let body = timeout(BODY_TIME, body::read(body)).await.map_err(|_| Problem::BodyTooSlow)?;
    let body = body.map_err(|problem| match problem {
        BodyProblem::TooLarge => Problem::too_large(),
        other => Problem::Shared(other.into()),
    })?;
    let message = message::read(headers, body)?;
    Ok(publishing::publish(&app.context.publisher, message).await?)
}

impl From<Accepted> for PublishedBody {
    fn from(accepted: Accepted) -> Self {
        let refused = accepted.refused.into_iter().map(RefusedBody::from).collect();
        Self { accepted: accepted.events, refused }
    }
}

/// Answers `OPTIONS`: the methods of the path. No other site may use it, so there is no CORS.
pub(crate) async fn options() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "OPTIONS, POST")])
}

/// Answers a request with another method.
pub(crate) async fn no_method() -> impl IntoResponse {
    ([(header::ALLOW, "OPTIONS, POST")], Problem::NoMethod)
}
