//! Resending a webhook's failed deliveries since a chosen time: the pages count them, start the
//! resend, show its progress and cancel it. The resend is an operation, and routers make its steps.

use askama::Template;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use fanfare_app::resends::{self, Counted, Origin, Progress, Resend, ResendError, Which};
use fanfare_core::ids::WebhookId;
use uuid::Uuid;

use super::components::{FormToken, Moment};
use super::error::PageError;
use super::fields;
use super::page::{Frame, page, see_other};
use super::visitor::{Id, Posted, Visitor};
use super::{WEBHOOKS, deliveries, text};
use crate::app::Shared;

/// The times to choose from.
pub(super) const CHOICES: [(&str, &str, TimeDelta); 4] = [
    ("1h", "The last hour", TimeDelta::hours(1)),
    ("24h", "The last 24 hours", TimeDelta::hours(24)),
    ("3d", "The last 3 days", TimeDelta::days(3)),
    ("7d", "The last 7 days", TimeDelta::days(7)),
];
/// Everything, however old.
const EVER: &str = "ever";
/// The time in the field next to the choices.
pub(super) const EXACT: &str = "exact";

/// The first page: the choice of a time, and the number of failed deliveries since then.
#[derive(Template)]
#[template(path = "resend.html")]
struct Ask {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    paused: bool,
    choices: Vec<TimeChoice>,
    /// The time in the field next to the choices, in UTC, without a zone.
    at: String,
    /// Whether the time can't be read.
    wrong: bool,
    counted: Option<CountedSince>,
    /// The path of the open resend.
    open: Option<String>,
}

/// A time to choose from.
pub(super) struct TimeChoice {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) chosen: bool,
}

/// The number of deliveries that have failed since the chosen time.
struct CountedSince {
    /// The exact time, which the form sends, so that the resend has the deliveries that were
    /// counted.
    since: String,
    /// The same time for people; `None` for all deliveries.
    moment: Option<Moment>,
    count: i64,
    /// Whether there are more than the counted ones.
    more: bool,
}

/// The progress of a resend.
#[derive(Template)]
#[template(path = "resending.html")]
struct Resending {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    /// The path of this page.
    path: String,
    resend: Resend,
    since: Option<Moment>,
    asked_at: Moment,
    /// When and why the resend ended.
    ended: Option<(Moment, &'static str)>,
}

/// The ids of a webhook and a resend in a path.
pub(crate) struct Ids(WebhookId, Uuid);

impl FromRequestParts<Shared> for Ids {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let ids = Path::<(WebhookId, Uuid)>::from_request_parts(parts, app).await;
        ids.map(|Path((webhook, id))| Self(webhook, id)).map_err(|_| PageError::Unknown)
    }
}

/// `GET`: shows the choice of a time, and the count once a time is chosen.
pub(crate) async fn ask(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let query = deliveries::query(&uri);
    let name = query.text("since");
    let since = since(name, query.text("at"), (app.clock)());
    let counted = match since {
        Some(since) => {
            Some(counted(since, resends::count(&app.context, &visitor.actor(), id, since).await?))
        }
        None => None,
    };
    let open = resends::open(&app.context, &visitor.actor(), id).await?;
    let choices = CHOICES.iter().map(|(name, label, _)| (*name, *label));
    let choices = choices.chain([(EVER, "Ever"), (EXACT, "The time below")]);
    let asked = Ask {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id,
        url: webhook.uri.as_str().to_owned(),
        paused: webhook.paused,
        choices: choices
            .map(|(it, label)| TimeChoice { name: it, label, chosen: it == name })
            .collect(),
        at: query.text("at").chars().take(32).collect(),
        wrong: name == EXACT && since.is_none(),
        counted,
        open: open.map(|resend| path(id, resend.id)),
    };
    Ok(page(StatusCode::OK, &asked))
}

/// `POST`: begins the resend.
pub(crate) async fn begin(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    let actor = posted.visitor.actor();
    let since = posted.fields.text("since").parse().map_err(|_| PageError::Unknown)?;
    let problem = match resends::begin(&app.context, &actor, id, since, Origin::Form).await {
        Ok(resend) => return Ok(see_other(&path(id, resend.id))),
        Err(ResendError::NotReceiving(_)) => "paused",
        Err(ResendError::TooMany) => "resends",
        Err(error) => return Err(error.into()),
    };
    Ok(see_other(&fields::path(&format!("{WEBHOOKS}/{id}"), &[("problem", problem)])))
}

/// `GET`: shows the progress.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Ids(id, resend): Ids,
) -> Result<Response, PageError> {
    let found = resends::show(&app.context, &visitor.actor(), id, Which::Id(resend)).await?;
    Ok(page(StatusCode::OK, &resending(&visitor, found)))
}

/// `POST`: cancels the resend.
pub(crate) async fn cancel(
    State(app): State<Shared>,
    Ids(id, resend): Ids,
    posted: Posted,
) -> Result<Response, PageError> {
    resends::cancel(&app.context, &posted.visitor.actor(), id, Which::Id(resend)).await?;
    Ok(see_other(&path(id, resend)))
}

impl From<ResendError> for PageError {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::Webhook(error) => error.into(),
            ResendError::Store(error) => error.into(),
            ResendError::Unknown | ResendError::NotReceiving(_) | ResendError::TooMany => {
                Self::Unknown
            }
        }
    }
}

/// The path of the page with a resend's progress.
pub(super) fn path(webhook: WebhookId, resend: Uuid) -> String {
    format!("{WEBHOOKS}/{webhook}/resend/{}", resend.simple())
}

fn resending(visitor: &Visitor, found: Progress) -> Resending {
    let Progress { webhook, resend } = found;
    Resending {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id: webhook.id,
        url: webhook.uri.as_str().to_owned(),
        path: path(webhook.id, resend.id),
        since: (resend.since > DateTime::UNIX_EPOCH).then_some(Moment(resend.since)),
        asked_at: Moment(resend.asked_at),
        ended: resend.ended.map(|(at, ended)| (Moment(at), text::resend_ended(ended))),
        resend,
    }
}

/// Reads the chosen time. Returns `None` if no time was chosen, or it is not valid.
pub(super) fn since(name: &str, at: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match name {
        EVER => Some(DateTime::UNIX_EPOCH),
        EXACT => exact(at),
        name => {
            let (_, _, ago) = CHOICES.iter().find(|(known, ..)| *known == name)?;
            now.checked_sub_signed(*ago)
        }
    }
}

/// Reads a time as browsers send it in a form: without a zone, with or without seconds.
fn exact(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replace(' ', "T");
    let read = |format| NaiveDateTime::parse_from_str(&text, format).ok();
    let time = read("%Y-%m-%dT%H:%M").or_else(|| read("%Y-%m-%dT%H:%M:%S%.f"))?;
    let time = time.and_utc();
    // Limit the time to the range that the database can store.
    (DateTime::UNIX_EPOCH <= time && time < DateTime::UNIX_EPOCH + TimeDelta::days(366 * 1000))
        .then_some(time)
}

fn counted(since: DateTime<Utc>, Counted { count, more }: Counted) -> CountedSince {
    CountedSince {
        since: since.to_rfc3339_opts(SecondsFormat::Micros, true),
        moment: (since > DateTime::UNIX_EPOCH).then_some(Moment(since)),
        count,
        more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::fields::Fields;

    #[track_caller]
    fn check(query: &str, expected: Option<&str>) {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let fields = Fields::parse(query.as_bytes());
        let since = since(fields.text("since"), fields.text("at"), now);
        assert_eq!(
            since.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).as_deref(),
            expected
        );
    }

    #[test]
    fn a_time_is_chosen_from_the_list_or_typed() {
        check("since=1h", Some("2026-11-23T09:00:00Z"));
        check("since=7d", Some("2026-11-16T10:00:00Z"));
        check("since=ever", Some("1970-01-01T00:00:00Z"));
        check("since=exact&at=2026-11-22T08%3A30", Some("2026-11-22T08:30:00Z"));
        check("since=exact&at=2026-11-22+08%3A30%3A15", Some("2026-11-22T08:30:15Z"));
        for nonsense in ["", "since=2d", "since=exact", "since=exact&at=x", "at=2026-11-22T08:30"] {
            check(nonsense, None);
        }
        check("since=exact&at=-9999-01-01T00:00", None);
        check("since=exact&at=99999-01-01T00:00", None);
    }
}
