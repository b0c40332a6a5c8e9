//! The grid of webhooks: the visitor's own, or those of all users for an administrator.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_core::name::Name;
use fanfare_store::webhooks::grid::{Column, PageAnchor};

use super::components::FormToken;
use super::error::PageError;
use super::fields::Fields;
use super::page::{Frame, page};
use super::row::{self, Row};
use super::table::GridQuery;
use super::text;
use super::visitor::Visitor;
use crate::app::Shared;

#[derive(Template)]
#[template(path = "grid.html")]
struct Grid {
    frame: Frame,
    token: FormToken,
    done: Option<&'static str>,
    search: String,
    sort: &'static str,
    order: &'static str,
    headings: Vec<Heading>,
    rows: Vec<Row>,
    /// The numbers of the first and the last row among all that were found, from 1.
    from: i64,
    to: i64,
    found: i64,
    /// The number of webhooks without the search.
    all: i64,
    administrator: bool,
    previous: Option<String>,
    next: Option<String>,
}

/// The head of a column.
struct Heading {
    /// The value of `aria-sort`.
    sorted: Option<&'static str>,
    links: Vec<Link>,
}

/// A link that sorts the grid by a column.
struct Link {
    label: &'static str,
    path: String,
    chosen: bool,
}

/// `GET`: shows the grid.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let fields = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let query = GridQuery::parse(&fields);
    let administrator = visitor.caller.administrator;
    let owner: Option<&Name> = (!administrator).then_some(&visitor.caller.name);
    let found = app.store.webhooks_grid(&query.filter(owner)).await?;
    let all = match found.found {
        found if query.search.is_empty() => found,
        _ => app.store.webhooks_number(owner).await?,
    };
    let (first, last) = found.ends.unzip();
    let to = found.before + i64::try_from(found.webhooks.len()).unwrap_or(0);
    let is_more = to < found.found;
    let (sort, order) = query.order();
    let grid = Grid {
        frame: visitor.frame(),
        token: visitor.form_token(),
        done: text::done(fields.text("done")),
        headings: headings(&query, administrator),
        rows: row::of(&app, &visitor, &found.webhooks).await?,
        from: found.before + 1,
        to,
        found: found.found,
        all,
        administrator,
        previous: first
            .filter(|_| found.before > 0)
            .map(|key| query.page(&PageAnchor::Before(key))),
        next: last.filter(|_| is_more).map(|key| query.page(&PageAnchor::After(key))),
        sort,
        order,
        search: query.search.clone(),
    };
    Ok(page(StatusCode::OK, &grid))
}

fn headings(query: &GridQuery, administrator: bool) -> Vec<Heading> {
    let link = |(label, column): &(&'static str, Column)| {
        let chosen = query.column == *column;
        // A link to the current column reverses the order.
        let path = query.sorted_by(*column, chosen && !query.descending);
        Link { label, path, chosen }
    };
    let sorted = if query.descending { "descending" } else { "ascending" };
    let heading = |columns: &[(&'static str, Column)]| {
        let links: Vec<Link> = columns.iter().map(link).collect();
        let is_sorted = links.iter().any(|link| link.chosen);
        Heading { sorted: is_sorted.then_some(sorted), links }
    };
    [
        &[("User", Column::User)][..],
        &[("Webhook URL", Column::Url)],
        &[("Filters", Column::Filters)],
        &[("Description", Column::Description)],
        &[("Paused", Column::Paused)],
        &[("Last 24 hours", Column::Rate), ("Last result", Column::Last)],
    ]
    .into_iter()
    .skip(usize::from(!administrator))
    .map(heading)
    .collect()
}
