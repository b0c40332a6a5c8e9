//! `/api/v1/deliveries`: what was sent, what is on its way, and once more, please.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::job::Restart;
use fanfare_core::outcome;
use fanfare_core::webhook::Webhook;
use fanfare_store::deliveries::{AttemptLog, Delivery, DeliveryFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::list::{LARGEST_PAGE, PAGE, cursor, page, place};
use super::problem::{Conflict, Problem};
use super::request::{Id, Query, User, id, name, number, text, time};
use super::view::delivery as view;
use crate::api::json::json;
use crate::app::{App, Shared};

/// What was asked for is on its way.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// The delivery's id.
    id: String,
    /// Whether a new chain of attempts has begun; otherwise an attempt was about to be made anyway.
    begun: bool,
}

/// `GET` of all that the user may see.
pub(crate) async fn list(
    State(app): State<Shared>,
    user: User,
    uri: Uri,
) -> Result<Response, Problem> {
    let known =
        ["webhook", "event", "owner", "state", "since", "until", "limit", "cursor"].as_slice();
    let mut query = Query::of(&uri, known);
    let owner = query.take("owner", name);
    let filter = DeliveryFilter {
        webhook: query.take("webhook", id),
        event: query.take("event", text),
        owner: None,
        state: query.take("state", state),
        since: query.take("since", time),
        until: query.take("until", time),
        after: query.take("cursor", place),
        limit: query.take("limit", number(1, LARGEST_PAGE)).unwrap_or(PAGE),
    };
    query.end()?;
    let filter = DeliveryFilter { owner: user.whose(owner)?, ..filter };
    let found = app.store.deliveries_page(&filter).await?;
    let items = found.deliveries.iter().map(view::json).collect();
    Ok(page(items, found.next.as_ref().map(cursor)))
}

/// `GET` of one, with its attempts.
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let (delivery, attempts) = find(&app, &user, id).await?;
    Ok(json(StatusCode::OK, &view::json_with_attempts(&delivery, &attempts)))
}

/// `POST` to `…/retry`: a new attempt now, and further ones if it fails.
pub(crate) async fn retry(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let (delivery, _) = find(&app, &user, id).await?;
    receiving(&app, delivery.webhook).await?;
    let (batch, webhook) = app.store.delivery_find(id).await?.ok_or(NOTHING)?;
    let begun = match app.store.delivery_restart(batch, webhook, false).await? {
        Restart::Begun(due) => {
            app.broker.hand_over(&[due]).await;
            true
        }
        Restart::UnderWay => return Err(under_way()),
        Restart::MovedOn | Restart::Unknown => false,
    };
    Ok(json(StatusCode::ACCEPTED, &Retried { id: id.to_string(), begun }))
}

/// Another attempt beside the one that is being made could arrive twice.
fn under_way() -> Problem {
    Problem::Conflict(Conflict {
        code: "attempt-under-way",
        title: "An attempt is being made",
        detail: "An attempt is being made now; wait until it has ended.".to_owned(),
    })
}

const NOTHING: Problem = Problem::NotFound("There is no such delivery.");

/// A delivery that the user may see.
async fn find(
    app: &App,
    user: &User,
    id: DeliveryId,
) -> Result<(Delivery, Vec<AttemptLog>), Problem> {
    let found = app.store.delivery_show(id).await?;
    found.filter(|(delivery, _)| user.sees(delivery.owner.as_deref())).ok_or(NOTHING)
}

/// A webhook that is sent to: what is asked for on behalf of another would only be dropped.
pub(super) async fn receiving(app: &App, id: WebhookId) -> Result<Webhook, Problem> {
    let webhook = app.store.webhooks_get(&[id]).await?.pop();
    let webhook = webhook.ok_or_else(|| {
        Problem::Conflict(Conflict {
            code: "webhook-deleted",
            title: "The webhook is deleted",
            detail: "The webhook is deleted; nothing is sent to it any more.".to_owned(),
        })
    })?;
    not_paused(webhook)
}

/// The webhook, if it is not paused.
pub(super) fn not_paused(webhook: Webhook) -> Result<Webhook, Problem> {
    if webhook.paused { Err(paused()) } else { Ok(webhook) }
}

/// Nothing is sent to a webhook that is paused.
pub(super) fn paused() -> Problem {
    Problem::Conflict(Conflict {
        code: "webhook-paused",
        title: "The webhook is paused",
        detail: "The webhook is paused; resume it first.".to_owned(),
    })
}

fn state(text: &str) -> Result<outcome::State, String> {
    let known = outcome::State::ALL.map(outcome::State::name).join(", ");
    outcome::State::parse(text).ok_or_else(|| format!("the states are {known}"))
}
