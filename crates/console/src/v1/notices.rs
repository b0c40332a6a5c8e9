//! `/api/v1/notices`: list notices.

use axum::extract::State;
use axum::response::Response;
use fanfare_app::json::notice as view;
use fanfare_app::notices::{self, NoticeError, NoticePage};
use fanfare_core::name::Name;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::list::{Limit, Page, limit, page};
use super::problem::Problem;
use super::request::{Query, User, parameter};
use crate::app::Shared;

/// Which notices to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only notices about this user's webhooks. Only a System Administrator may name another user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous page.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Uuid>,
}

/// List notices, the newest first.
///
/// System Administrators get all of them. Users get those about their own webhooks.
#[utoipa::path(
    get,
    path = "/notices",
    tag = "Notices",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of notices.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    User(actor): User,
    Query(ListQuery { owner, limit: most, cursor }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let listed = notices::list(&app.context, &actor, owner, cursor, limit(most)).await?;
    let NoticePage { notices, next } = listed;
    let next = next.map(|id| id.simple().to_string());
    Ok(page(notices.iter().map(view::json).collect(), next))
}

impl From<NoticeError> for Problem {
    fn from(error: NoticeError) -> Self {
        match error {
            NoticeError::NotAdministrator(error) => error.into(),
            NoticeError::Store(error) => error.into(),
        }
    }
}
