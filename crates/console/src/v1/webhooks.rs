//! `/api/v1/webhooks/{id}`: show and change a webhook's rate limit, send a test event, replace the
//! secret.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::clock::rfc3339;
use fanfare_app::test_events::{self, SendError, Sent};
use fanfare_app::webhooks::{self, Patch, Verification};
use fanfare_core::ids::WebhookId;
use fanfare_core::rate_limit::{BadRateLimit, RateLimit};
use fanfare_core::webhook::{Secret, Webhook};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::{Conflict, FieldError, Problem};
use super::request::{self, Id, User, members};
use crate::api::json::json;
use crate::app::{App, Shared};

/// The default time for which a replaced secret signs as well. The maximum is a week.
const OVERLAP: Duration = Duration::from_hours(24);
const LONGEST_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// The values of `whilePaused`.
const DROP: &str = "drop";
const HOLD: &str = "hold";

/// The rate at which a webhook gets its notifications, and what happens while it is paused.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(crate) struct Shown {
    /// 32 hex digits.
    id: String,
    /// The webhook's owner.
    owner: String,
    /// The address of its receiver.
    url: String,
    /// Whether it is paused, so that it gets nothing until it is resumed.
    paused: bool,
    /// What becomes of what happens while it is paused: `drop`, or `hold` to send it when it is resumed.
    while_paused: &'static str,
    /// The time since which it is paused and holds; `null` when it does not.
    #[schema(format = DateTime)]
    held_since: Option<String>,
    /// The owner's limit: the maximum number of attempts a minute; `null` for no limit.
    rate_limit: Option<u32>,
    /// The time until which nothing is sent, because the receiver asked to wait; `null` when it did
    /// not.
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// The seconds between attempts that the receiver was found to accept; `null` if it has not
    /// refused any.
    interval_seconds: Option<f64>,
}

/// Changes to a webhook. Members that are left out keep their values.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WebhookChange {
    /// The maximum number of attempts a minute, from 1 to 1000000; `null` for no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    rate_limit: Option<Value>,
    /// Whether it is paused. A webhook that holds begins to get what happened when it is resumed.
    paused: Option<bool>,
    /// What becomes of what happens while it is paused, by the service too: `drop`, or `hold` to send it
    /// when it is resumed.
    while_paused: Option<String>,
}

/// Reads a member that is present, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Show the rate at which a webhook gets its notifications.
///
/// All other properties of a webhook are in its registration.
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    tag = "Webhooks: maintenance",
    responses((status = 200, description = "The webhook.", body = Shown), (status = 404))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let webhook = webhooks::find(&app.context, &actor, id).await?;
    Ok(json(StatusCode::OK, &shown(&app, &webhook)))
}

/// Limit the attempts a minute, pause or resume.
///
/// The limit applies to the webhook as a whole, for any number of workers. A notification that
/// exceeds it waits, which does not count as an attempt.
#[utoipa::path(
    patch,
    path = "/webhooks/{id}",
    tag = "Webhooks: maintenance",
    request_body = WebhookChange,
    responses(
        (status = 200, description = "The webhook as it is now.", body = Shown),
        (status = 400),
        (status = 404),
    )
)]
pub(crate) async fn change(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
    body: Body,
) -> Result<Response, Problem> {
    webhooks::find(&app.context, &actor, id).await?;
    let WebhookChange { rate_limit, paused, while_paused } = members(body).await?;
    let hold = match while_paused.as_deref() {
        None => None,
        Some(HOLD) => Some(true),
        Some(DROP) => Some(false),
        Some(_) => return Err(Problem::invalid("whilePaused", "write drop or hold")),
    };
    let rate_limit = match rate_limit {
        None => RateLimit::Kept,
        Some(Value::Null) => RateLimit::Set(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            let limit = number.map_or(Err(BadRateLimit), RateLimit::of);
            limit.map_err(|error| Problem::invalid("rateLimit", error.to_string()))?
        }
    };
    let patch = Patch { rate_limit, paused, hold, ..Patch::default() };
    let verification = Verification::Ask(&app.client);
    let changed = webhooks::patch(&app.context, &actor, id, patch, verification).await?;
    Ok(json(StatusCode::OK, &shown(&app, &changed)))
}

fn shown(app: &App, webhook: &Webhook) -> Shown {
    Shown {
        id: webhook.id.to_string(),
        owner: webhook.owner.to_string(),
        url: webhook.uri.as_str().to_owned(),
        paused: webhook.paused,
        while_paused: if webhook.hold { HOLD } else { DROP },
        held_since: webhook.held_since.map(rfc3339),
        rate_limit: webhook.rate_limit,
        held_until: webhook.pacing.held_until((app.clock)()).map(rfc3339),
        interval_seconds: webhook.pacing.interval,
    }
}

/// The answer to a test event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tested {
    /// The delivery's id.
    delivery: String,
    /// The event's id.
    event: String,
    /// The event's source.
    source: String,
    /// The event's type.
    r#type: String,
    /// The path of the resource that the event is about.
    subject: String,
    /// When the event was stored.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Send a test event.
///
/// The event is delivered like every event, but to this webhook alone. It is about a resource that
/// the owner may read, of a kind that the webhook's filters select. If there is no such resource,
/// the request is refused, because the webhook would get no event either.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    tag = "Webhooks: maintenance",
    responses(
        (status = 202, description = "The request was accepted.", body = Tested),
        (status = 404),
        (status = 409),
        (status = 429),
    )
)]
pub(crate) async fn test(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let sent = test_events::send(&app.context, &actor, id).await?;
    let Sent { event, due, received_at } = sent;
    let tested = Tested {
        delivery: due.id().to_string(),
        event: event.id,
        source: event.source,
        r#type: event.event_type,
        subject: event.resource.to_string(),
        created_at: rfc3339(received_at),
    };
    Ok(json(StatusCode::ACCEPTED, &tested))
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let refused =
            |code, title, detail: String| Self::Conflict(Conflict { code, title, detail });
        match error {
            SendError::Webhook(error) => error.into(),
            SendError::Store(error) => error.into(),
            SendError::TooMany { wait } => Self::TooMany { wait },
            SendError::NotReceiving(why) => why.into(),
            SendError::OwnerDisabled(owner) => {
                let detail = format!("{owner} is disabled, so nothing is sent to their webhooks.");
                refused("owner-disabled", "The owner is disabled", detail)
            }
            SendError::OwnerDeleted(owner) => {
                let detail = format!(
                    "{owner} is not in the report server's directory, so nothing is sent to \
                     their webhooks."
                );
                refused("owner-deleted", "The owner is not in the directory", detail)
            }
            SendError::NothingReadable(owner) => {
                let detail = format!(
                    "{owner} may read no resource of the kinds that the webhook's filters select, \
                     so it gets no events: give {owner} a permission, or change the filters."
                );
                let title = "The owner may read nothing that the webhook's filters select";
                refused("nothing-readable", title, detail)
            }
        }
    }
}

/// The replacement of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    /// The new secret, of 32 to 128 characters. It is generated when it is left out.
    secret: Option<String>,
    /// The time for which the old secret signs as well, such as `90s`, `24h` (the default) or `7d`
    /// (the maximum).
    overlap: Option<String>,
}

/// The new secret of a webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rotated {
    /// The webhook's id.
    webhook: String,
    /// The new secret, which signs from now on.
    secret: String,
    /// The time until which the old secret signs as well.
    #[schema(format = DateTime)]
    previous_until: String,
}

/// Replace the secret.
///
/// Until `previousUntil`, the old secret signs as well, in a further entry of `webhook-signature`;
/// `ms-signature` has room for one signature only, which is by the new secret.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/secret",
    tag = "Webhooks: maintenance",
    request_body = Rotation,
    responses(
        (status = 200, description = "The new secret.", body = Rotated),
        (status = 400),
        (status = 404),
    )
)]
pub(crate) async fn rotate(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
    body: Body,
) -> Result<Response, Problem> {
    webhooks::find(&app.context, &actor, id).await?;
    let Rotation { secret: wanted, overlap } = members(body).await?;
    let mut wrong = Vec::new();
    let mut refuse = |name: &str, detail| wrong.push(FieldError { name: name.to_owned(), detail });
    let wanted = wanted.map(|text| text.parse::<Secret>()).transpose().unwrap_or_else(|_| {
        refuse("secret", "write 32 to 128 characters, or leave it out".to_owned());
        None
    });
    let overlap = overlap.map(|text| request::duration(&text, LONGEST_OVERLAP)).transpose();
    let overlap = overlap.unwrap_or_else(|detail| {
        refuse("overlap", detail);
        None
    });
    if !wrong.is_empty() {
        return Err(Problem::Invalid(wrong));
    }
    let overlap = overlap.unwrap_or(OVERLAP);
    let new = webhooks::rotate(&app.context, &actor, id, wanted, overlap).await?;
    let rotated = Rotated {
        webhook: id.to_string(),
        secret: new.secret.reveal().to_owned(),
        previous_until: rfc3339(new.previous_until),
    };
    Ok(json(StatusCode::OK, &rotated))
}
