//! `/api/v1/audit`: list the audit trail.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::audit::{self, AuditError, AuditPage};
use fanfare_app::json::audit as view;
use fanfare_core::audit::Action;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_store::audit::{AuditFilter, AuditPosition};
use serde::Deserialize;
use utoipa::IntoParams;

use super::list::{Limit, Page, cursor, limit, page};
use super::problem::Problem;
use super::request::{Parameter, Query, User, parameter};
use crate::app::Shared;

/// Which entries to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only entries that concern the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only entries that concern this user's webhooks. Only a System Administrator may name another
    /// user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// Only entries about the local account with this name.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    account: Option<Name>,
    /// Only what the user with this name did.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    actor: Option<Name>,
    /// Only entries with this action, such as `webhook.paused`.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    action: Option<Action>,
    /// Only entries of this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Only entries before this time.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous page.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<AuditPosition>,
}

/// List the audit trail, the newest entry first.
///
/// System Administrators get all entries. Users get what concerns their own webhooks, without the
/// addresses of other people.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "Audit",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of entries.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    User(actor): User,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let filter = AuditFilter {
        owner: wanted.owner,
        webhook: wanted.webhook,
        account: wanted.account,
        actor: wanted.actor,
        action: wanted.action,
        since: wanted.since,
        until: wanted.until,
        after: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let AuditPage { entries, next } = audit::list(&app.context, &actor, filter).await?;
    Ok(page(entries.iter().map(view::json).collect(), next.as_ref().map(cursor)))
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::NotAdministrator(error) => error.into(),
            AuditError::Store(error) => error.into(),
        }
    }
}

impl Parameter for Action {
    fn read(text: &str) -> Result<Self, String> {
        let known: Vec<&str> = Self::ALL.iter().map(|action| action.code()).collect();
        Self::parse(text).ok_or_else(|| format!("the actions are {}", known.join(", ")))
    }
}
