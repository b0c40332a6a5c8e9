//! `/api/v1/webhooks/{id}`: how fast it gets its notifications, trying it out, replacing its secret.

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

/// How long a replaced secret signs beside the new one, when nothing else is asked for; at most a
/// week.
const OVERLAP: Duration = Duration::from_hours(24);
const LONGEST_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// How fast a webhook gets its notifications.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(crate) struct Shown {
    /// 32 hex digits.
    id: String,
    /// Whose webhook it is.
    owner: String,
    /// Where it goes.
    url: String,
    /// Whether it gets nothing until it is resumed.
    paused: bool,
    /// The owner's limit: the most attempts a minute; `null` for no limit.
    rate_limit: Option<u32>,
    /// Until when nothing is sent because the receiver asked to wait; `null` when it does not.
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// The seconds between attempts that the receiver was found to take; `null` when it never
    /// refused any.
    interval_seconds: Option<f64>,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WebhookChange {
    /// The most attempts a minute, from 1 to 1000000; `null` for no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    rate_limit: Option<Value>,
}

/// A member that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Show how fast a webhook gets its notifications.
///
/// What else there is to a webhook, its registration has.
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    tag = "Webhooks: upkeep",
    responses((status = 200, description = "The webhook.", body = Shown), (status = 404))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let webhook = webhooks::find(&app.context, &user.0.actor(), id).await?;
    Ok(json(StatusCode::OK, &shown(&app, &webhook)))
}

/// Limit the attempts a minute.
///
/// The limit counts for the webhook as a whole, however many workers there are. What exceeds it
/// waits, without counting as an attempt.
#[utoipa::path(
    patch,
    path = "/webhooks/{id}",
    tag = "Webhooks: upkeep",
    request_body = WebhookChange,
    responses(
        (status = 200, description = "The webhook as it is now.", body = Shown),
        (status = 400),
        (status = 404),
    )
)]
pub(crate) async fn change(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
    body: Body,
) -> Result<Response, Problem> {
    let actor = user.0.actor();
    webhooks::find(&app.context, &actor, id).await?;
    let WebhookChange { rate_limit } = members(body).await?;
    let rate_limit = match rate_limit {
        None => RateLimit::Kept,
        Some(Value::Null) => RateLimit::Set(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            let limit = number.map_or(Err(BadRateLimit), RateLimit::of);
            limit.map_err(|error| Problem::invalid("rateLimit", error.to_string()))?
        }
    };
    let patch = Patch { rate_limit, ..Patch::default() };
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
        rate_limit: webhook.rate_limit,
        held_until: webhook.pacing.held_until((app.clock)()).map(rfc3339),
        interval_seconds: webhook.pacing.interval,
    }
}

/// A test event is on its way.
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
    /// What it is about.
    subject: String,
    /// When it was taken in.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Send a test event.
///
/// The event takes the way of every event, to this webhook alone. It is about something that the
/// owner may read, of a kind that the webhook asks for; without such a thing it is refused, as no
/// event would be sent.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    tag = "Webhooks: upkeep",
    responses(
        (status = 202, description = "It is on its way.", body = Tested),
        (status = 404),
        (status = 409),
        (status = 429),
    )
)]
pub(crate) async fn test(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let sent = test_events::send(&app.context, &user.0.actor(), id).await?;
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
                let detail =
                    format!("{owner} is disabled, so that nothing is sent to their webhooks.");
                refused("owner-disabled", "The owner is disabled", detail)
            }
            SendError::OwnerDeleted(owner) => {
                let detail = format!(
                    "{owner} is not in the report server's directory, so that nothing is sent to \
                     their webhooks."
                );
                refused("owner-deleted", "The owner is not in the directory", detail)
            }
            SendError::NothingReadable(owner) => {
                let detail = format!(
                    "{owner} may read nothing of the kinds that the webhook asks for, so that it \
                     gets no events: give {owner} a permission, or change the webhook's filters."
                );
                let title = "The owner may read nothing that the webhook asks for";
                refused("nothing-readable", title, detail)
            }
        }
    }
}

/// What a new secret is to be.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    /// The new secret, of 32 to 128 characters; one is made when it is left out.
    secret: Option<String>,
    /// How long the old one signs beside it, such as `90s`, `24h` (when left out) or `7d` (the most).
    overlap: Option<String>,
}

/// A webhook's new secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rotated {
    /// The webhook's id.
    webhook: String,
    /// The new secret, which signs from now on.
    secret: String,
    /// Until when the old one signs beside it.
    #[schema(format = DateTime)]
    previous_until: String,
}

/// Replace the secret.
///
/// Until `previousUntil` the old secret signs too, in a further entry of `webhook-signature`;
/// `ms-signature` has room for the new one alone.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/secret",
    tag = "Webhooks: upkeep",
    request_body = Rotation,
    responses(
        (status = 200, description = "The new secret.", body = Rotated),
        (status = 400),
        (status = 404),
    )
)]
pub(crate) async fn rotate(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
    body: Body,
) -> Result<Response, Problem> {
    let actor = user.0.actor();
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
