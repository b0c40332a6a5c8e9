//! `/api/webhooks/filters`: the catalogue of filters.

use axum::http::StatusCode;
use axum::response::Response;
use fanfare_core::filter::Filter;
use serde::Serialize;
use utoipa::ToSchema;

use super::json::json;
use crate::auth::caller::Caller;

const FILTERS: &str = "/api/webhooks/filters";

/// A filter that webhooks can have.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Filter)]
pub(crate) struct FilterDescription {
    /// The name, as it stands in a webhook's `Filters`.
    name: &'static str,
    /// The events that it selects.
    description: &'static str,
}

const EVERYTHING: FilterDescription = FilterDescription {
    name: "*",
    description: "All events of all kinds, those to come included.",
};

/// List the filters that webhooks can have.
#[utoipa::path(
    get,
    path = FILTERS,
    tag = "Webhooks",
    responses(
        (status = 200, description = "`*` and the five filters.", body = Vec<FilterDescription>)
    )
)]
pub(crate) async fn list(_caller: Caller) -> Response {
    let of = |filter: Filter| FilterDescription {
        name: filter.name(),
        description: filter.description(),
    };
    let filters: Vec<FilterDescription> =
        [EVERYTHING].into_iter().chain(Filter::ALL.into_iter().map(of)).collect();
    json(StatusCode::OK, &filters)
}
