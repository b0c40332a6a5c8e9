//! The page on which what webhooks missed is counted, before an operation recovers it. For one webhook it is
//! the owner's as well.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use fanfare_app::operations::{self, OperationError, Plan};
use fanfare_core::dead_letter::Choice;
use fanfare_core::operation::Kind;

use super::components::{FormToken, Moment};
use super::error::PageError;
use super::fields::Fields;
use super::page::{Frame, page};
use super::resend::{CHOICES, EXACT, TimeChoice, since};
use super::visitor::Visitor;
use super::{choice, text};
use crate::app::Shared;

#[derive(Template)]
#[template(path = "recover.html")]
struct Recover {
    frame: Frame,
    token: FormToken,
    /// The webhook and its address, if it is about one.
    webhook: Option<(String, String)>,
    owner: String,
    choices: Vec<TimeChoice>,
    /// The time in the field next to the choices.
    at: String,
    counted: Option<Counted>,
    wrong: Option<&'static str>,
}

/// What was missed in the chosen time.
struct Counted {
    /// The exact times, which the form sends.
    since: String,
    until: String,
    from: Moment,
    to: Moment,
    count: i64,
    left_out: Vec<(String, i64)>,
}

/// Shows the choice of a time, and the counts once a time is chosen.
pub(super) async fn ask(
    app: &Shared,
    visitor: &Visitor,
    query: &Fields,
    wrong: Option<&'static str>,
) -> Result<Response, PageError> {
    let now = (app.clock)();
    let name = query.text("last");
    let mut asked = choice::choice(query).unwrap_or_default();
    asked.since = asked.since.or_else(|| since(name, query.text("at"), now));
    let webhook = match asked.webhook {
        Some(id) => {
            let webhook = visitor.webhook(app, id).await?;
            Some((id.to_string(), webhook.uri.as_str().to_owned()))
        }
        None if visitor.caller.administrator => None,
        None => return Err(PageError::Unknown),
    };
    let (counted, bad) = match asked.since {
        None => {
            (None, (name == EXACT).then_some("Write a date and a time, such as 2026-11-23 10:00."))
        }
        Some(from) => counted(app, visitor, &asked, (from, asked.until.unwrap_or(now))).await?,
    };
    let time = |(it, label, _): &(&'static str, &'static str, _)| TimeChoice {
        name: it,
        label,
        chosen: *it == name,
    };
    let exact = TimeChoice { name: EXACT, label: "The time below", chosen: name == EXACT };
    let shown = Recover {
        frame: visitor.frame().of_operations(),
        token: visitor.form_token(),
        webhook,
        owner: query.text("owner").to_owned(),
        choices: CHOICES.iter().map(time).chain([exact]).collect(),
        at: query.text("at").chars().take(32).collect(),
        counted,
        wrong: wrong.or(bad),
    };
    Ok(page(StatusCode::OK, &shown))
}

async fn counted(
    app: &Shared,
    visitor: &Visitor,
    asked: &Choice,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<(Option<Counted>, Option<&'static str>), PageError> {
    let asked = Choice {
        webhook: asked.webhook,
        owner: asked.owner.clone(),
        since: Some(from),
        until: Some(until),
        ..Choice::default()
    };
    let planned = operations::plan(&app.context, &visitor.actor(), Kind::Recover, &asked).await;
    let Plan { settle: count, keep } = match planned {
        Err(OperationError::BadMissed(_)) => {
            return Ok((None, Some("The time must begin before it ends.")));
        }
        planned => planned?,
    };
    let exact = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let counted = Counted {
        since: exact(from),
        until: exact(until),
        from: Moment(from),
        to: Moment(until),
        count,
        left_out: keep.into_iter().map(|(why, count)| (text::refusal(&why), count)).collect(),
    };
    Ok((Some(counted), None))
}
