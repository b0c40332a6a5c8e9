//! Bulk operations: the list, one operation with its progress, and the page that counts the letters before an operation begins. The filters are in the address.

use askama::Template;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::operations::{self, OperationError, OperationPage, Request};
use fanfare_core::operation::{Change, Kind, Rate, State as OperationState};
use fanfare_store::operations::Operation;
use serde_json::Value;
use uuid::Uuid;

use super::choice::{self, choice, filters};
use super::components::{FormToken, Moment};
use super::deliveries::query;
use super::error::PageError;
use super::fields;
use super::page::{Frame, page, see_other};
use super::visitor::{Posted, Visitor};
use super::{DEAD_LETTERS, OPERATIONS, recover, text};
use crate::app::Shared;

/// The number of operations on a page.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "operations.html")]
struct List {
    frame: Frame,
    rows: Vec<Shown>,
    next: Option<String>,
    is_first: bool,
    is_administrator: bool,
}

#[derive(Template)]
#[template(path = "operation.html")]
struct One {
    frame: Frame,
    token: FormToken,
    shown: Shown,
    /// Why the last change was not made.
    problem: Option<&'static str>,
    can_pause: bool,
    can_resume: bool,
    can_undo: bool,
    /// The dead letters that match its filters now.
    left: Option<String>,
}

#[derive(Template)]
#[template(path = "operation_new.html")]
struct New {
    frame: Frame,
    token: FormToken,
    kind: &'static str,
    is_replay: bool,
    /// Names, values, labels and times of the filters.
    filters: Vec<(String, String, String, Option<Moment>)>,
    count: i64,
    kept: Vec<(String, i64)>,
    wrong: Option<&'static str>,
}

/// An operation as it is shown.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Shown {
    path: String,
    kind: &'static str,
    /// Whether its letters have outcomes.
    sends: bool,
    is_recover: bool,
    is_resend: bool,
    /// Whether its letters are called deliveries.
    of_deliveries: bool,
    state: &'static str,
    has_ended: bool,
    /// Labels and values of its filters.
    filters: Vec<(String, String, Option<Moment>)>,
    note: Option<String>,
    rate: Option<u32>,
    canary: bool,
    by: String,
    asked_at: Moment,
    ended_at: Option<Moment>,
    total: i64,
    done: i64,
    settled: i64,
    waiting: i64,
    open: i64,
    delivered: i64,
    failed: i64,
    dropped: i64,
    kept: Vec<(String, i64)>,
}

/// The id of an operation in a path.
pub(crate) struct OperationId(Uuid);

impl FromRequestParts<Shared> for OperationId {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let id = Path::<Uuid>::from_request_parts(parts, app).await;
        id.map(|Path(id)| Self(id)).map_err(|_| PageError::Unknown)
    }
}

/// `GET`: lists the operations.
pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let after = Uuid::try_parse(query(&uri).text("after")).ok();
    let actor = visitor.actor();
    let listed = operations::list(&app.context, &actor, after, PAGE).await?;
    let OperationPage { operations, next } = listed;
    let next = next.map(|id| fields::path(OPERATIONS, &[("after", &id.simple().to_string())]));
    let list = List {
        frame: visitor.frame().of_operations(),
        rows: operations.iter().map(shown).collect(),
        next,
        is_first: after.is_none(),
        is_administrator: actor.is_administrator(),
    };
    Ok(page(StatusCode::OK, &list))
}

/// `GET`: shows an operation with its progress.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    OperationId(id): OperationId,
    uri: Uri,
) -> Result<Response, PageError> {
    let operation = operations::show(&app.context, &visitor.actor(), id).await?;
    let problem = match query(&uri).text("problem") {
        "state" => Some("That was not done: the operation has another state by now."),
        "undo" => Some("Nothing of this operation can be restored any more."),
        _ => None,
    };
    let one = One {
        frame: visitor.frame().of_operations(),
        token: visitor.form_token(),
        problem,
        can_pause: operation.state == OperationState::Running,
        can_resume: operation.state == OperationState::Paused,
        can_undo: operation.can_be_undone,
        left: (operation.kind != Kind::Recover && operation.state.has_ended())
            .then(|| left(&operation))
            .flatten(),
        shown: shown(&operation),
    };
    Ok(page(StatusCode::OK, &one))
}

/// `GET`: counts the letters, and asks how to work on them.
pub(crate) async fn new(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let kind = Kind::parse(query.text("kind")).ok_or(PageError::Unknown)?;
    let wrong = match query.text("problem") {
        "rate" => Some("The rate is a whole number of letters a second from 1 to 10000."),
        "note" => Some("The note may have at most 500 characters."),
        _ => None,
    };
    if kind == Kind::Recover {
        return recover::ask(&app, &visitor, &query, wrong).await;
    }
    let choice = choice(&query).ok_or(PageError::Unknown)?;
    let plan = operations::plan(&app.context, &visitor.actor(), kind, &choice).await?;
    let new = New {
        frame: visitor.frame().of_operations(),
        token: visitor.form_token(),
        kind: kind.code(),
        is_replay: kind == Kind::Replay,
        filters: filters(&query).into_iter().map(shown_filter).collect(),
        count: plan.settle,
        kept: plan.keep.into_iter().map(|(why, count)| (text::refusal(&why), count)).collect(),
        wrong,
    };
    Ok(page(StatusCode::OK, &new))
}

fn shown_filter((name, value): (String, String)) -> (String, String, String, Option<Moment>) {
    let (label, at) = (choice::label(&name).to_owned(), choice::moment(&name, &value));
    (name, value, label, at)
}

/// `POST`: begins an operation.
pub(crate) async fn begin(
    State(app): State<Shared>,
    posted: Posted,
) -> Result<Response, PageError> {
    let fields = &posted.fields;
    let kind = Kind::parse(fields.text("kind")).ok_or(PageError::Unknown)?;
    let choice = choice(fields).ok_or(PageError::Unknown)?;
    let again = |problem| {
        let filters = filters(fields);
        let filters = filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let members = [("kind", kind.code()), ("problem", problem)].into_iter().chain(filters);
        see_other(&fields::path("/operations/new", &members.collect::<Vec<_>>()))
    };
    let rate = match fields.text("rate") {
        "" => None,
        text => match text.parse().ok().and_then(|rate| Rate::of(rate).ok()) {
            Some(rate) => Some(rate),
            None => return Ok(again("rate")),
        },
    };
    let note = fields.text("note").replace('\0', "");
    let request = Request { kind, choice, note, rate, canary: fields.has("canary") };
    match operations::begin(&app.context, &posted.visitor.actor(), &request).await {
        Ok(operation) => Ok(see_other(&path(operation.id))),
        Err(OperationError::LongNote) => Ok(again("note")),
        Err(error) => Err(error.into()),
    }
}

/// `POST`: pauses an operation.
pub(crate) async fn pause(
    State(app): State<Shared>,
    OperationId(id): OperationId,
    posted: Posted,
) -> Result<Response, PageError> {
    change(&app, id, &posted, Change::Pause).await
}

/// `POST`: resumes an operation.
pub(crate) async fn resume(
    State(app): State<Shared>,
    OperationId(id): OperationId,
    posted: Posted,
) -> Result<Response, PageError> {
    change(&app, id, &posted, Change::Resume).await
}

/// `POST`: cancels an operation.
pub(crate) async fn cancel(
    State(app): State<Shared>,
    OperationId(id): OperationId,
    posted: Posted,
) -> Result<Response, PageError> {
    change(&app, id, &posted, Change::Cancel).await
}

/// `POST`: restores what an operation discarded.
pub(crate) async fn undo(
    State(app): State<Shared>,
    OperationId(id): OperationId,
    posted: Posted,
) -> Result<Response, PageError> {
    match operations::undo(&app.context, &posted.visitor.actor(), id).await {
        Ok(_) => Ok(see_other(&path(id))),
        Err(OperationError::NothingToUndo) => {
            Ok(see_other(&fields::path(&path(id), &[("problem", "undo")])))
        }
        Err(error) => Err(error.into()),
    }
}

async fn change(
    app: &Shared,
    id: Uuid,
    posted: &Posted,
    change: Change,
) -> Result<Response, PageError> {
    match operations::change(&app.context, &posted.visitor.actor(), id, change).await {
        Ok(_) => Ok(see_other(&path(id))),
        Err(OperationError::NotNow(..)) => {
            Ok(see_other(&fields::path(&path(id), &[("problem", "state")])))
        }
        Err(error) => Err(error.into()),
    }
}

impl From<OperationError> for PageError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Store(error) => error.into(),
            OperationError::NotAdministrator(_)
            | OperationError::Unknown
            | OperationError::NotNow(..)
            | OperationError::Resend
            | OperationError::NothingToUndo
            | OperationError::BadMissed(_)
            | OperationError::LongNote => Self::Unknown,
        }
    }
}

fn path(id: Uuid) -> String {
    format!("{OPERATIONS}/{}", id.simple())
}

/// The address of the dead letters that match an operation's filters now; `None` for chosen ids.
fn left(operation: &Operation) -> Option<String> {
    let filters = operation.filter.as_object()?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let filters: Vec<_> = filters.iter().map(|(name, value)| (&**name, text(value))).collect();
    if filters.iter().any(|(name, _)| *name == "ids") {
        return None;
    }
    let filters: Vec<_> = filters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Some(fields::path(DEAD_LETTERS, &filters))
}

fn shown(operation: &Operation) -> Shown {
    let open = operation.open();
    let counts = &operation.counts;
    let filters = operation.filter.as_object().into_iter().flatten().map(|(name, value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Array(ids) => format!("{} letters", ids.len()),
            other => other.to_string(),
        };
        (choice::label(name).to_owned(), value.clone(), choice::moment(name, &value))
    });
    Shown {
        path: path(operation.id),
        kind: match operation.kind {
            Kind::Replay => "Replay",
            Kind::Discard => "Discard",
            Kind::Recover => "Recover",
            Kind::Resend => "Send again",
        },
        sends: operation.kind.sends(),
        is_recover: operation.kind == Kind::Recover,
        is_resend: operation.kind == Kind::Resend,
        of_deliveries: operation.kind.is_of_owners(),
        state: text::operation_state(operation.state),
        has_ended: operation.state.has_ended(),
        filters: filters.collect(),
        note: operation.note.clone(),
        rate: operation.rate.map(Rate::letters_per_second),
        canary: operation.canary,
        by: operation.author.actor.clone().unwrap_or_else(|| "–".to_owned()),
        asked_at: Moment(operation.asked_at),
        ended_at: operation.ended_at.map(Moment),
        total: counts.total,
        done: counts.settled + counts.kept(),
        settled: counts.settled,
        waiting: counts.waiting(),
        open,
        delivered: counts.delivered,
        failed: counts.failed,
        dropped: counts.dropped,
        kept: counts.refused.iter().map(|(why, count)| (text::refusal(why), *count)).collect(),
    }
}
