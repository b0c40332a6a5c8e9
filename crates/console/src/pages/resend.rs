//! Sending again all that failed of a webhook since a time: choose since when, see how many that
//! is, confirm, watch it go on, cancel. It goes on without the page: see `upkeep`.

use askama::Template;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use fanfare_app::resends::{self, Counted, Origin, Progress, ResendError, Which};
use fanfare_core::ids::WebhookId;
use fanfare_store::deliveries::{Resend, ResendProgress};
use uuid::Uuid;

use super::error::Failed;
use super::fields::{self, Fields};
use super::page::{Frame, page, see_other};
use super::parts::{FormToken, Moment};
use super::visitor::{Id, Posted, Visitor};
use super::{WEBHOOKS, deliveries, text};
use crate::app::Shared;

/// The times to choose from.
const CHOICES: [(&str, &str, TimeDelta); 4] = [
    ("1h", "The last hour", TimeDelta::hours(1)),
    ("24h", "The last 24 hours", TimeDelta::hours(24)),
    ("3d", "The last 3 days", TimeDelta::days(3)),
    ("7d", "The last 7 days", TimeDelta::days(7)),
];
/// Everything, however old.
const EVER: &str = "ever";
/// A time that is written beside the choice.
const EXACT: &str = "exact";

/// The first page: since when, and how many that is.
#[derive(Template)]
#[template(path = "resend.html")]
struct Ask {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    paused: bool,
    choices: Vec<Choice>,
    /// The time in the field beside the choice, without a zone: UTC.
    at: String,
    /// Whether that can't be read.
    wrong: bool,
    counted: Option<CountedSince>,
    /// Where the request is that goes on.
    open: Option<String>,
}

struct Choice {
    name: &'static str,
    label: &'static str,
    chosen: bool,
}

/// What failed since the chosen time.
struct CountedSince {
    /// Frozen: what the form sends is what was counted.
    since: String,
    /// `None` for everything.
    moment: Option<Moment>,
    count: i64,
    /// Whether there are more than were counted.
    more: bool,
}

/// How a request goes on.
#[derive(Template)]
#[template(path = "resending.html")]
struct Resending {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    /// The page itself.
    path: String,
    resend: Resend,
    since: Option<Moment>,
    asked_at: Moment,
    became: ResendProgress,
    /// When it ended and why.
    ended: Option<(Moment, &'static str)>,
}

/// The request that a path names, and its webhook.
pub(crate) struct Ids(WebhookId, Uuid);

impl FromRequestParts<Shared> for Ids {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Failed> {
        let ids = Path::<(WebhookId, Uuid)>::from_request_parts(parts, app).await;
        ids.map(|Path((webhook, id))| Self(webhook, id)).map_err(|_| Failed::Unknown)
    }
}

/// `GET`: since when, and when that is chosen, how many.
pub(crate) async fn ask(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, Failed> {
    let webhook = visitor.webhook(&app, id).await?;
    let query = deliveries::query(&uri);
    let name = query.text("since");
    let since = since(&query, (app.clock)());
    let counted = match since {
        Some(since) => {
            Some(counted(since, resends::count(&app.context, &visitor.actor(), id, since).await?))
        }
        None => None,
    };
    let open = app.store.resend_open(id).await?;
    let choices = CHOICES.iter().map(|(name, label, _)| (*name, *label));
    let choices = choices.chain([(EVER, "Ever"), (EXACT, "The time below")]);
    let asked = Ask {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id,
        url: webhook.uri.as_str().to_owned(),
        paused: webhook.paused,
        choices: choices
            .map(|(it, label)| Choice { name: it, label, chosen: it == name })
            .collect(),
        at: query.text("at").chars().take(32).collect(),
        wrong: name == EXACT && since.is_none(),
        counted,
        open: open.map(|resend| path(id, resend.id)),
    };
    Ok(page(StatusCode::OK, &asked))
}

/// `POST`: begins.
pub(crate) async fn begin(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, Failed> {
    let actor = posted.visitor.actor();
    let since = posted.fields.text("since").parse().map_err(|_| Failed::Unknown)?;
    let problem = match resends::begin(&app.context, &actor, id, since, Origin::Form).await {
        Ok(resend) => return Ok(see_other(&path(id, resend.id))),
        Err(ResendError::NotReceiving(_)) => "paused",
        Err(ResendError::TooMany) => "resends",
        Err(error) => return Err(error.into()),
    };
    Ok(see_other(&fields::path(&format!("{WEBHOOKS}/{id}"), &[("problem", problem)])))
}

/// `GET`: how it goes on.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Ids(id, resend): Ids,
) -> Result<Response, Failed> {
    let found = resends::show(&app.context, &visitor.actor(), id, Which::Id(resend)).await?;
    Ok(page(StatusCode::OK, &resending(&visitor, found)))
}

/// `POST`: ends it where it is.
pub(crate) async fn cancel(
    State(app): State<Shared>,
    Ids(id, resend): Ids,
    posted: Posted,
) -> Result<Response, Failed> {
    resends::cancel(&app.context, &posted.visitor.actor(), id, Which::Id(resend)).await?;
    Ok(see_other(&path(id, resend)))
}

impl From<ResendError> for Failed {
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

/// Where a request is seen going on.
pub(super) fn path(webhook: WebhookId, resend: Uuid) -> String {
    format!("{WEBHOOKS}/{webhook}/resend/{}", resend.simple())
}

fn resending(visitor: &Visitor, found: Progress) -> Resending {
    let Progress { webhook, resend, became } = found;
    Resending {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id: webhook.id,
        url: webhook.uri.as_str().to_owned(),
        path: path(webhook.id, resend.id),
        since: (resend.since > DateTime::UNIX_EPOCH).then_some(Moment(resend.since)),
        asked_at: Moment(resend.asked_at),
        became,
        ended: resend.ended.map(|(at, ended)| (Moment(at), text::resend_ended(ended))),
        resend,
    }
}

/// The time that was chosen; `None` when none was, or it makes no sense.
fn since(query: &Fields, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match query.text("since") {
        EVER => Some(DateTime::UNIX_EPOCH),
        EXACT => exact(query.text("at")),
        name => {
            let (_, _, ago) = CHOICES.iter().find(|(known, ..)| *known == name)?;
            now.checked_sub_signed(*ago)
        }
    }
}

/// A time as browsers write it into a form, without a zone and with or without seconds.
fn exact(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replace(' ', "T");
    let read = |format| NaiveDateTime::parse_from_str(&text, format).ok();
    let time = read("%Y-%m-%dT%H:%M").or_else(|| read("%Y-%m-%dT%H:%M:%S%.f"))?;
    let time = time.and_utc();
    // Not before all times, nor after what the database has room for.
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

    #[track_caller]
    fn check(query: &str, expected: Option<&str>) {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let since = since(&Fields::parse(query.as_bytes()), now);
        assert_eq!(
            since.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).as_deref(),
            expected
        );
    }

    #[test]
    fn a_time_is_chosen_or_written() {
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
