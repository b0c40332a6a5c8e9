//! All webhooks of the visitor, and everybody's for an administrator.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_core::name::Name;

use super::error::Failed;
use super::fields::{self, Fields};
use super::page::{Frame, page};
use super::parts::FormToken;
use super::row::{self, Row};
use super::table::{Asked, Column};
use super::visitor::Visitor;
use super::{WEBHOOKS, text};
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
    found: usize,
    /// How many there are without the search.
    all: usize,
    administrator: bool,
    previous: Option<String>,
    next: Option<String>,
}

/// The head of a column, which sorts by it.
struct Heading {
    label: &'static str,
    path: String,
    /// As `aria-sort` has it.
    sorted: Option<&'static str>,
}

/// `GET`.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failed> {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let asked = Asked::parse(&query);
    let administrator = visitor.caller.administrator;
    let owner: Option<&Name> = (!administrator).then_some(&visitor.caller.name);
    let webhooks = app.store.webhooks_list(owner).await?;
    let all = webhooks.len();
    let shown = asked.page(webhooks);
    let (sort, order) = asked.order();
    let to = |name: &str, place: Option<String>| {
        let place = place?;
        let search = ("q", asked.search.as_str());
        Some(fields::path(WEBHOOKS, &[search, ("sort", sort), ("order", order), (name, &place)]))
    };
    let grid = Grid {
        frame: Frame::of(&visitor),
        token: visitor.form_token(),
        done: text::done(query.text("done")),
        headings: headings(&asked, administrator),
        rows: row::of(&app, &visitor, &shown.webhooks).await?,
        found: shown.found,
        all,
        administrator,
        previous: to("before", shown.previous),
        next: to("after", shown.next),
        sort,
        order,
        search: asked.search.clone(),
    };
    Ok(page(StatusCode::OK, &grid))
}

fn headings(asked: &Asked, administrator: bool) -> Vec<Heading> {
    let heading = |(label, column): (&'static str, Column)| {
        let is_sorted = asked.column == column;
        let sorted = if asked.descending { "descending" } else { "ascending" };
        let order = if is_sorted && !asked.descending { "desc" } else { "asc" };
        let query = [("q", asked.search.as_str()), ("sort", column.name()), ("order", order)];
        Heading { label, path: fields::path(WEBHOOKS, &query), sorted: is_sorted.then_some(sorted) }
    };
    [
        ("User", Column::User),
        ("Webhook URL", Column::Url),
        ("Filters", Column::Filters),
        ("Description", Column::Description),
        ("Paused", Column::Paused),
    ]
    .into_iter()
    .filter(|(_, column)| administrator || *column != Column::User)
    .map(heading)
    .collect()
}
