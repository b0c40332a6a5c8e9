//! The correction of a dead event, for administrators: the original beside a form with its text.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::dead_letters::mend::{self, MendError, Mended, Original, Repeated, Wish};
use fanfare_core::event::Event;
use fanfare_core::mend::Fault;

use super::components::{FormToken, Moment};
use super::deliveries::query;
use super::error::PageError;
use super::fields;
use super::page::{Frame, page};
use super::text;
use super::visitor::{Posted, Visitor};
use crate::app::Shared;

/// The path of the page.
const PATH: &str = "/dead-letters/mend";
/// The most events that are listed after a check.
const LISTED: usize = 20;

#[derive(Template)]
#[template(path = "mend.html")]
struct Mend {
    frame: Frame,
    token: FormToken,
    id: String,
    letter: String,
    reason: String,
    detail: String,
    original: String,
    is_masked: bool,
    text: String,
    state: Checked,
    /// Those of its events that were routed before.
    repeated: Vec<RepeatedLine>,
}

/// What is known of the text in the form.
enum Checked {
    /// It was not checked.
    No,
    /// It can't be published.
    Faulty(Vec<String>),
    /// It can be published as these events.
    Valid(Vec<Line>),
    /// It was published as these events.
    Published { events: Vec<Line>, confirmed: bool },
}

impl Checked {
    fn is_faulty(&self) -> bool {
        matches!(self, Self::Faulty(_))
    }

    fn is_published(&self) -> bool {
        matches!(self, Self::Published { .. })
    }
}

/// An event that was routed before, in a list.
struct RepeatedLine {
    id: String,
    path: String,
    routed_at: Moment,
}

/// An event in a list.
struct Line {
    id: String,
    path: String,
    event_type: String,
    resource: String,
}

#[derive(Template)]
#[template(path = "mend_not.html")]
struct Not {
    frame: Frame,
    letter: String,
    why: String,
}

/// The path of the page for a letter.
pub(super) fn path(id: &str) -> String {
    fields::path(PATH, &[("id", id)])
}

/// `GET`: shows the original and the form.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let id = query(&uri).text("id").to_owned();
    match mend::original(&app.context, &visitor.actor(), &id).await {
        Ok(original) => {
            let text = original.text.clone();
            Ok(shown(&visitor, StatusCode::OK, original, text, (Checked::No, Vec::new())))
        }
        Err(error) => refused(&visitor, &id, error),
    }
}

/// `POST`: checks the text, and publishes it if the person asks for that.
pub(crate) async fn submit(
    State(app): State<Shared>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let (id, text) = (fields.text("id").to_owned(), fields.raw("event").to_owned());
    let actor = visitor.actor();
    let wish = match fields.text("publish") {
        "" => Wish::Check,
        "repeated" => Wish::PublishRepeated,
        _ => Wish::Publish,
    };
    let original = match mend::original(&app.context, &actor, &id).await {
        Ok(original) => original,
        Err(error) => return refused(&visitor, &id, error),
    };
    let (status, state) = match mend::mend(&app.context, &actor, &original, &text, wish).await {
        Ok(Mended { events, repeated, confirmed }) => {
            let events = lines(&events);
            let state = match wish {
                Wish::Check => Checked::Valid(events),
                _ => Checked::Published { events, confirmed },
            };
            (StatusCode::OK, (state, repeated))
        }
        Err(MendError::Repeated(repeated)) => (StatusCode::CONFLICT, (Checked::No, repeated)),
        Err(MendError::Faulty(faults)) => {
            let faults = faults.iter().map(sentence).collect();
            (StatusCode::UNPROCESSABLE_ENTITY, (Checked::Faulty(faults), Vec::new()))
        }
        Err(error) => return refused(&visitor, &id, error),
    };
    Ok(shown(&visitor, status, original, text, state))
}

fn shown(
    visitor: &Visitor,
    status: StatusCode,
    original: Original,
    text: String,
    (state, repeated): (Checked, Vec<Repeated>),
) -> Response {
    let mend = Mend {
        frame: visitor.frame().of_dead_letters(),
        token: visitor.form_token(),
        letter: letter(&original.letter.id),
        id: original.letter.id,
        reason: original.letter.reason,
        detail: original.letter.detail,
        original: original.text,
        is_masked: original.is_masked,
        text,
        state,
        repeated: repeated.iter().map(repeated_line).collect(),
    };
    page(status, &mend)
}

fn refused(visitor: &Visitor, id: &str, error: MendError) -> Result<Response, PageError> {
    match error {
        MendError::NotAdministrator(_) => Err(PageError::Unknown),
        MendError::Store(error) => Err(error.into()),
        error => {
            let status = match error {
                MendError::Unknown => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            let frame = visitor.frame().of_dead_letters();
            let why = text::sentence(&error.to_string());
            Ok(page(status, &Not { frame, letter: letter(id), why }))
        }
    }
}

fn letter(id: &str) -> String {
    fields::path("/dead-letters/letter", &[("id", id)])
}

fn lines(events: &[Event]) -> Vec<Line> {
    let line = |event: &Event| Line {
        id: event.id.clone(),
        path: fields::path("/events/event", &[("id", &event.id), ("source", &event.source)]),
        event_type: event.event_type.clone(),
        resource: event.resource.to_string(),
    };
    events.iter().take(LISTED).map(line).collect()
}

fn repeated_line(event: &Repeated) -> RepeatedLine {
    RepeatedLine {
        id: event.id.clone(),
        path: fields::path("/events/event", &[("id", &event.id), ("source", &event.source)]),
        routed_at: Moment(event.routed_at),
    }
}

fn sentence(fault: &Fault) -> String {
    let detail = text::sentence(&fault.detail);
    match fault.position {
        Some(position) => format!("Event {} of the batch: {detail}", position + 1),
        None => detail,
    }
}
