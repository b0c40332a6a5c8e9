//! All webhooks of the visitor, and everybody's for an administrator.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_core::name::Name;
use fanfare_store::webhooks::grid::{Column, PageAnchor};

use super::error::Failed;
use super::fields::Fields;
use super::page::{Frame, page};
use super::parts::FormToken;
use super::row::{self, Row};
use super::table::Asked;
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
    /// The places of the first and the last row among all that were found, from 1.
    from: i64,
    to: i64,
    found: i64,
    /// How many there are without the search.
    all: i64,
    administrator: bool,
    previous: Option<String>,
    next: Option<String>,
}

/// The head of a column.
struct Heading {
    /// As `aria-sort` has it.
    sorted: Option<&'static str>,
    links: Vec<Link>,
}

/// What a column is sorted by when it is followed.
struct Link {
    label: &'static str,
    path: String,
    chosen: bool,
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
    let found = app.store.webhooks_grid(&asked.filter(owner)).await?;
    let all = match found.found {
        found if asked.search.is_empty() => found,
        _ => app.store.webhooks_number(owner).await?,
    };
    let (first, last) = found.ends.unzip();
    let to = found.before + i64::try_from(found.webhooks.len()).unwrap_or(0);
    let is_more = to < found.found;
    let (sort, order) = asked.order();
    let grid = Grid {
        frame: visitor.frame(),
        token: visitor.form_token(),
        done: text::done(query.text("done")),
        headings: headings(&asked, administrator),
        rows: row::of(&app, &visitor, &found.webhooks).await?,
        from: found.before + 1,
        to,
        found: found.found,
        all,
        administrator,
        previous: first
            .filter(|_| found.before > 0)
            .map(|key| asked.page(&PageAnchor::Before(key))),
        next: last.filter(|_| is_more).map(|key| asked.page(&PageAnchor::After(key))),
        sort,
        order,
        search: asked.search.clone(),
    };
    Ok(page(StatusCode::OK, &grid))
}

fn headings(asked: &Asked, administrator: bool) -> Vec<Heading> {
    let link = |(label, column): &(&'static str, Column)| {
        let chosen = asked.column == *column;
        // What is sorted already is turned round.
        let path = asked.sorted_by(*column, chosen && !asked.descending);
        Link { label, path, chosen }
    };
    let sorted = if asked.descending { "descending" } else { "ascending" };
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
