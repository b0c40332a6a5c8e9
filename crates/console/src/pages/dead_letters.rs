//! Dead letters, for administrators: what they have in common, the newest ones, and one with its message.
//! The filters are in the address, and operations on the letters take them from there.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::dead_letters::{self, Newest, Stopped};
use fanfare_core::dead_letter::{Fault, GroupBy, Kind, Letter, Position, fault};
use fanfare_core::ids::DeliveryId;
use fanfare_store::letters::{Group, Refused};

use super::choice::{self, choice, filters};
use super::components::{Deaths, Moment, shortened};
use super::deliveries::query;
use super::error::PageError;
use super::fields;
use super::mend;
use super::page::{Frame, page, see_other};
use super::period;
use super::visitor::Visitor;
use super::{DEAD_LETTERS, text};
use crate::app::Shared;

/// The number of letters on a page.
const PAGE: i64 = 50;
/// The number of groups that are shown.
const GROUPS: usize = 20;
/// The most characters of an error in a list.
const SHORT: usize = 120;
/// The most characters of a message's body.
const BODY: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct List {
    frame: Frame,
    by: GroupBy,
    bys: Vec<(&'static str, String, bool)>,
    groups: Vec<GroupRow>,
    more_groups: usize,
    rows: Vec<Row>,
    count: i64,
    filters: Vec<Chosen>,
    text: String,
    /// The times to choose from: labels and addresses. The first one is any time.
    periods: Vec<(&'static str, String, bool)>,
    queue: String,
    wrong: bool,
    replay: String,
    discard: String,
    first: Option<String>,
    next: Option<String>,
}

/// A field that narrows the choice, as it is shown.
struct Chosen {
    name: String,
    label: String,
    value: String,
    /// The value, if it is a time.
    at: Option<Moment>,
    /// The address without it.
    without: String,
}

/// A group of letters as it is shown.
struct GroupRow {
    value: String,
    /// The address of the group's letters.
    path: Option<String>,
    /// Where they are replayed.
    replay: Option<String>,
    under: Option<String>,
    count: i64,
    first: Moment,
    last: Moment,
    chart: Deaths,
    refused: Vec<String>,
}

/// A letter as it is shown.
struct Row {
    path: String,
    died_at: Moment,
    queue: &'static str,
    reason: String,
    why: String,
    owner: Option<String>,
    host: Option<String>,
    event: String,
    event_type: Option<String>,
    status: Option<i32>,
}

#[derive(Template)]
#[template(path = "dead_letter.html")]
struct One {
    frame: Frame,
    row: Row,
    id: String,
    error: Option<String>,
    detail: String,
    /// Its cause, and the address of the letters with the same.
    cause: Option<(String, String)>,
    /// Its host, and the address of the letters with the same.
    host: Option<(String, String)>,
    attempts: Option<i32>,
    webhook: Option<String>,
    delivery: Option<(String, String)>,
    is_ours: bool,
    body: Option<String>,
    is_cut: bool,
    replay: String,
    discard: String,
    /// Where the event can be mended.
    mend: Option<String>,
}

/// `GET`: shows the groups and the newest letters.
pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let by = GroupBy::parse(query.text("by")).unwrap_or(GroupBy::Reason);
    let after: Option<Position> = query.text("after").parse().ok();
    let read = choice(&query);
    let wrong = read.is_none();
    let chosen = read.unwrap_or_default();
    let filters = filters(&query);
    if let Some(filters) = period::applied(&query, &filters, (app.clock)()) {
        return Ok(see_other(&Address { filters: &filters, by }.path(&[])));
    }
    let (actor, store) = (visitor.actor(), &app.context.store);
    let Newest { letters, next, count } =
        dead_letters::newest(store, &actor, &chosen, after.as_ref(), PAGE).await?;
    let found = dead_letters::groups(store, &actor, &chosen, by).await?;
    let address = Address { filters: &filters, by };
    let shown = List {
        frame: visitor.frame().of_dead_letters(),
        by,
        bys: GroupBy::ALL
            .map(|it| (label(it), Address { by: it, ..address }.path(&[]), it == by))
            .into(),
        more_groups: found.total.saturating_sub(GROUPS),
        groups: found.groups.into_iter().take(GROUPS).map(|it| group_row(it, address)).collect(),
        rows: letters.iter().map(row).collect(),
        count,
        text: query.text("text").to_owned(),
        queue: query.text("queue").to_owned(),
        wrong,
        replay: address.operation("replay"),
        discard: address.operation("discard"),
        first: after.map(|_| address.path(&[])),
        next: next.map(|next| address.path(&[("after", &next.to_string())])),
        periods: periods(address),
        filters: filters.iter().map(|filter| chosen_field(filter, address)).collect(),
    };
    Ok(page(StatusCode::OK, &shown))
}

/// `GET`: shows one letter.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let id = query(&uri).text("id").replace('\0', "");
    let kept = dead_letters::show_kept(&app.context.store, &visitor.actor(), id).await?;
    let (letter, message) = kept.ok_or(PageError::Unknown)?;
    let body = message.map(|it| String::from_utf8_lossy(&it.message.body).into_owned());
    let is_cut = body.as_ref().is_some_and(|body| body.chars().nth(BODY).is_some());
    let of_id = |kind| fields::path("/operations/new", &[("kind", kind), ("id", &letter.id)]);
    let same = |filters: &[(&str, &str)]| fields::path(DEAD_LETTERS, filters);
    let shown = One {
        frame: visitor.frame().of_dead_letters(),
        row: row(&letter),
        webhook: letter.webhook.map(|id| id.to_string()),
        delivery: letter.died_by.map(|died| {
            let delivery = DeliveryId::of(died.batch, died.webhook).to_string();
            (format!("/webhooks/{}/deliveries/{delivery}", died.webhook), delivery)
        }),
        is_ours: fault(&letter.reason) == Fault::Ours,
        body: body.map(|body| shortened(&body, BODY)),
        is_cut,
        replay: of_id("replay"),
        discard: of_id("discard"),
        mend: (letter.kind == Kind::Events).then(|| mend::path(&letter.id)),
        error: letter.error,
        detail: letter.detail,
        cause: letter.cause.map(|it| (it.clone(), same(&[("cause", &it)]))),
        host: letter.host.map(|it| (it.clone(), same(&[("host", &it), ("by", "cause")]))),
        attempts: letter.attempts,
        id: letter.id,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// The address of a list: its filters, and how it is grouped.
#[derive(Clone, Copy)]
struct Address<'a> {
    filters: &'a [(String, String)],
    by: GroupBy,
}

impl Address<'_> {
    fn path(self, more: &[(&str, &str)]) -> String {
        let filters = self.filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let by = if self.by == GroupBy::Reason { "" } else { self.by.name() };
        let all: Vec<_> = filters.chain([("by", by)]).chain(more.iter().copied()).collect();
        fields::path(DEAD_LETTERS, &all)
    }

    fn without(self, name: &str) -> String {
        let filters: Vec<_> = self.filters.iter().filter(|(it, _)| it != name).cloned().collect();
        Address { filters: &filters, by: self.by }.path(&[])
    }

    fn operation(self, kind: &str) -> String {
        let filters = self.filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = [("kind", kind)].into_iter().chain(filters).collect();
        fields::path("/operations/new", &all)
    }
}

fn periods(address: Address<'_>) -> Vec<(&'static str, String, bool)> {
    let is_time = |(name, _): &&(String, String)| period::TIMES.contains(&name.as_str());
    let others: Vec<_> = address.filters.iter().filter(|it| !is_time(it)).cloned().collect();
    let any = others.len() == address.filters.len();
    let address = Address { filters: &others, ..address };
    let chosen = period::choices()
        .map(|(name, label)| (label, address.path(&[(period::FIELD, name)]), false));
    [("At any time", address.path(&[]), any)].into_iter().chain(chosen).collect()
}

fn chosen_field((name, value): &(String, String), address: Address<'_>) -> Chosen {
    Chosen {
        name: name.clone(),
        label: choice::label(name).to_owned(),
        value: value.clone(),
        at: choice::moment(name, value),
        without: address.without(name),
    }
}

/// What a property is called.
fn label(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Reason => "Reason",
        GroupBy::Webhook => "Webhook",
        GroupBy::Owner => "Owner",
        GroupBy::Host => "Host",
        GroupBy::EventType => "Event type",
        GroupBy::Status => "Last status",
        GroupBy::Cause => "Error",
    }
}

fn group_row(group: Group, address: Address<'_>) -> GroupRow {
    let by = address.by;
    // The letters of a group are grouped by what explains them best.
    let next = if by == GroupBy::Cause { GroupBy::Webhook } else { GroupBy::Cause };
    let value = match (by, group.value) {
        (GroupBy::Webhook, value) => value.map(|id| id.replace('-', "")),
        (_, value) => value,
    };
    let filters = value.as_ref().map(|value| {
        let own = address.filters.iter().filter(|(name, _)| name != by.name()).cloned();
        own.chain([(by.name().to_owned(), value.clone())]).collect::<Vec<_>>()
    });
    let narrowed = filters.as_ref().map(|filters| Address { filters, by: next });
    let under = match (by, &value) {
        (GroupBy::Reason, Some(code)) => Some(text::reason(code).to_owned()),
        _ => group.owner.map(|owner| format!("of {owner}")),
    };
    let under = under.filter(|under| Some(under) != value.as_ref());
    GroupRow {
        value: value.unwrap_or_else(|| "none".to_owned()),
        path: narrowed.map(|it| it.path(&[])),
        replay: narrowed.map(|it| it.operation("replay")),
        under,
        count: group.count,
        first: Moment(group.first),
        last: Moment(group.last),
        chart: Deaths(group.chart),
        refused: refused(group.refused),
    }
}

/// What would not be sent if the letters were replayed now.
fn refused(refused: Refused) -> Vec<String> {
    let Refused { webhook_deleted, webhook_paused, owner_disabled } = refused;
    let parts = [
        (webhook_deleted, "webhook deleted"),
        (webhook_paused, "webhook paused"),
        (owner_disabled, "owner disabled"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, why)| format!("{count}: {why}")).collect()
}

fn row(letter: &Letter) -> Row {
    let why = match (&letter.error, letter.last_status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("The receiver answered {status}; {}", letter.detail),
        (None, None) => letter.detail.clone(),
    };
    Row {
        path: fields::path("/dead-letters/letter", &[("id", &letter.id)]),
        died_at: Moment(letter.died_at),
        queue: match letter.kind {
            Kind::Events => "Event",
            Kind::Deliveries => "Delivery",
        },
        reason: letter.reason.clone(),
        why: shortened(&why, SHORT),
        owner: letter.owner.clone().filter(|it| !it.is_empty()),
        host: letter.host.clone(),
        event: letter.event.clone().unwrap_or_default(),
        event_type: letter.event_type.clone(),
        status: letter.last_status,
    }
}

impl From<Stopped> for PageError {
    fn from(error: Stopped) -> Self {
        match error {
            Stopped::NotAdministrator(_) => Self::Unknown,
            Stopped::Store(error) => error.into(),
            // Nothing of these pages asks the broker.
            Stopped::Broker(_) => Self::Internal,
        }
    }
}
