//! A delivery's page: its attempts and their requests.

use askama::Template;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fanfare_app::NotReceiving;
use fanfare_app::deliveries::{self as use_cases, DeliveryError, Retried, RetryError, retry};
use fanfare_app::request_preview::{RequestPreview, preview};
use fanfare_core::answer::Trace;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::payload::WhyRemoved;
use fanfare_store::deliveries::{AttemptLog, Delivery};

use super::components::{FormToken, Moment, shortened};
use super::error::PageError;
use super::page::{Frame, page, see_other};
use super::visitor::{Posted, Visitor};
use super::{WEBHOOKS, deliveries, fields, text};
use crate::app::{App, Shared};

/// The length of an answer's body that is shown for each attempt, and for the chosen one, in
/// characters.
const GLANCE: usize = 600;
const WHOLE: usize = 16 * 1024;
/// The length of a request's body that is shown, in characters. The whole body can be downloaded.
const BODY: usize = 12 * 1024;
/// The number of attempts that are shown, the newest ones. The number of all attempts has no limit,
/// because a delivery can be resent any number of times.
const ATTEMPTS: usize = 24;

/// The ids of a webhook and a delivery in a path.
pub(crate) struct Ids(WebhookId, DeliveryId);

impl FromRequestParts<Shared> for Ids {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let ids = Path::<(WebhookId, DeliveryId)>::from_request_parts(parts, app).await;
        ids.map(|Path((webhook, delivery))| Self(webhook, delivery)).map_err(|_| PageError::Unknown)
    }
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    frame: Frame,
    token: FormToken,
    done: Option<&'static str>,
    problem: Option<&'static str>,
    webhook: WebhookId,
    url: String,
    delivery: Delivery,
    state: (&'static str, &'static str),
    types: String,
    events: String,
    why: Option<String>,
    created_at: Moment,
    finished_at: Option<Moment>,
    next_attempt_at: Option<Moment>,
    /// The time until which its webhook is held, if the delivery has not ended.
    held_until: Option<Moment>,
    attempts: Vec<Attempt>,
    older: usize,
    request: Option<Request>,
    /// What happened to the payload of its events; `None` while it is there.
    removed: Option<&'static str>,
}

/// An attempt on the page.
struct Attempt {
    number: i32,
    at: Moment,
    duration: String,
    timings: Timings,
    status: Option<i32>,
    good: bool,
    code: String,
    outcome: String,
    error: Option<String>,
    answer: Option<String>,
    /// What happened to the answer's body; `None` while it is there, or if there was none.
    removed: Option<&'static str>,
    /// Whether the answer is longer than what is shown.
    more: bool,
    headers: Option<Headers>,
    path: String,
    chosen: bool,
}

/// How an attempt's duration was spent.
struct Timings {
    /// The phases; empty when they are not known.
    parts: Vec<Part>,
    /// Whether the request used an open connection.
    reused: bool,
}

/// A phase of an attempt.
struct Part {
    name: &'static str,
    time: String,
}

/// The headers of an attempt's answer.
struct Headers {
    lines: Vec<(String, String)>,
    /// Whether there were more headers.
    more: bool,
}

/// The request of the chosen attempt.
struct Request {
    number: i32,
    /// The time at which the webhook was changed after the attempt.
    changed_at: Option<Moment>,
    hidden: usize,
    line: String,
    headers: Vec<(String, String)>,
    body: String,
    more: bool,
    file: String,
}

impl Request {
    /// The request of an attempt as it is shown. `base` is the path of the delivery's page.
    fn of(preview: RequestPreview, number: i32, base: &str) -> Self {
        let RequestPreview { line, headers, body, changed_at, hidden } = preview;
        Self {
            number,
            changed_at: changed_at.map(Moment),
            hidden,
            line: shortened(&line, BODY),
            headers,
            more: body.chars().nth(BODY).is_some(),
            body: shortened(&body, BODY),
            file: format!("{base}/body?attempt={number}"),
        }
    }
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Ids(id, delivery): Ids,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let (delivery, log) = find(&app, &visitor, id, delivery).await?;
    let query = deliveries::query(&uri);
    let chosen = chosen(&log, query.text("attempt"));
    let base = format!("{WEBHOOKS}/{id}/deliveries/{}", delivery.id);
    let request = match chosen {
        Some(attempt) => preview(&app.context, &visitor.actor(), &webhook, delivery.id, attempt)
            .await?
            .map(|preview| Request::of(preview, attempt.attempt, &base)),
        None => None,
    };
    let number = chosen.map(|attempt| attempt.attempt);
    let older = log.len().saturating_sub(ATTEMPTS);
    let attempts = log.iter().skip(older).rev().map(|log| {
        attempt(log, &base, number == Some(log.attempt) && !query.text("attempt").is_empty())
    });
    let why = delivery
        .detail
        .clone()
        .or_else(|| delivery.reason.as_deref().map(|reason| text::reason(reason).to_owned()));
    let held_until = webhook.pacing.held_until((app.clock)());
    let held_until = held_until.filter(|_| !delivery.state.is_final());
    let shown = DeliveryPage {
        frame: visitor.frame(),
        token: visitor.form_token(),
        done: text::done(query.text("done")),
        problem: text::problem(query.text("problem")),
        webhook: id,
        url: webhook.uri.as_str().to_owned(),
        state: text::state(delivery.state),
        types: deliveries::types(&delivery),
        events: shortened(&delivery.events.join(", "), BODY / 4),
        why,
        created_at: Moment(delivery.created_at),
        finished_at: delivery.finished_at.map(Moment),
        next_attempt_at: delivery.next_attempt_at.map(Moment),
        held_until: held_until.map(Moment),
        attempts: attempts.collect(),
        older,
        request,
        removed: delivery.payload_removed.map(WhyRemoved::sentence),
        delivery,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// `GET`: downloads the body of an attempt's request.
pub(crate) async fn body(
    State(app): State<Shared>,
    visitor: Visitor,
    Ids(id, delivery): Ids,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let (delivery, log) = find(&app, &visitor, id, delivery).await?;
    let query = deliveries::query(&uri);
    let attempt = chosen(&log, query.text("attempt")).ok_or(PageError::Unknown)?;
    let preview = preview(&app.context, &visitor.actor(), &webhook, delivery.id, attempt).await?;
    let RequestPreview { body, .. } = preview.ok_or(PageError::Unknown)?;
    let file = format!("attachment; filename=\"{}-{}.json\"", delivery.id, attempt.attempt);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, body).into_response())
}

/// `POST`: retries the delivery.
pub(crate) async fn resend(
    State(app): State<Shared>,
    Ids(id, delivery): Ids,
    posted: Posted,
) -> Result<Response, PageError> {
    let (delivery, _) = find(&app, &posted.visitor, id, delivery).await?;
    let retried = retry(&app.context, &posted.visitor.actor(), delivery.id).await;
    let (name, said) = match retried {
        Ok(Retried::Begun { .. }) => ("done", "resent"),
        Ok(Retried::AlreadyDue) => ("done", "not-resent"),
        Err(RetryError::InProgress) => ("problem", "under-way"),
        Err(RetryError::PayloadRemoved) => ("problem", "payload-removed"),
        Err(RetryError::NotReceiving(NotReceiving::Paused(_))) => ("problem", "paused"),
        Err(RetryError::NotReceiving(NotReceiving::Deleted(_))) => return Err(PageError::Unknown),
        Err(RetryError::Delivery(error)) => return Err(error.into()),
    };
    let path = format!("{WEBHOOKS}/{id}/deliveries/{}", delivery.id);
    Ok(see_other(&fields::path(&path, &[(name, said)])))
}

/// Finds a delivery to this webhook.
async fn find(
    app: &App,
    visitor: &Visitor,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<(Delivery, Vec<AttemptLog>), PageError> {
    let found = use_cases::show(&app.context, &visitor.actor(), id).await?;
    if found.0.webhook == webhook { Ok(found) } else { Err(PageError::Unknown) }
}

impl From<DeliveryError> for PageError {
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::Store(error) => error.into(),
            DeliveryError::Unknown | DeliveryError::NotAdministrator(_) => Self::Unknown,
        }
    }
}

/// Returns the attempt with this number, or else the last one.
fn chosen<'a>(log: &'a [AttemptLog], number: &str) -> Option<&'a AttemptLog> {
    match number.parse::<i32>() {
        Ok(number) => log.iter().find(|attempt| attempt.attempt == number),
        Err(_) => log.last(),
    }
}

fn attempt(log: &AttemptLog, base: &str, chosen: bool) -> Attempt {
    let most = if chosen { WHOLE } else { GLANCE };
    let answer = log.response_body.as_deref();
    let trace = log.trace.as_ref();
    Attempt {
        number: log.attempt,
        at: Moment(log.at),
        duration: log.duration_ms.map(duration).unwrap_or_default(),
        timings: Timings {
            parts: trace.map(|trace| parts(trace, log.duration_ms)).unwrap_or_default(),
            reused: trace.map_or(Some(true), Trace::reused) == Some(true),
        },
        status: log.status,
        good: matches!(log.outcome.as_str(), "delivered" | "gone"),
        code: log.outcome.clone(),
        outcome: text::outcome(&log.outcome).to_owned(),
        error: log.error.clone(),
        answer: answer.map(|answer| shortened(answer, most)),
        removed: log.payload_removed.map(WhyRemoved::sentence),
        more: answer.is_some_and(|answer| answer.chars().nth(most).is_some()),
        headers: trace.and_then(headers),
        path: format!("{base}?attempt={}", log.attempt),
        chosen,
    }
}

fn headers(trace: &Trace) -> Option<Headers> {
    let any = !trace.headers.is_empty() || trace.more_headers;
    any.then(|| Headers { lines: trace.headers.clone(), more: trace.more_headers })
}

/// The phases that occurred, in their order.
fn parts(trace: &Trace, total: Option<i32>) -> Vec<Part> {
    let known = [
        ("DNS", trace.dns_ms),
        ("Connect", trace.connect_ms),
        ("TLS", trace.tls_ms),
        ("First byte", trace.first_byte_ms),
    ];
    let part = |(name, ms): (_, Option<u32>)| {
        let time = duration(i32::try_from(ms?).unwrap_or(i32::MAX));
        Some(Part { name, time })
    };
    let mut parts: Vec<Part> = known.into_iter().filter_map(part).collect();
    if let (false, Some(total)) = (parts.is_empty(), total) {
        parts.push(Part { name: "Total", time: duration(total) });
    }
    parts
}

fn duration(ms: i32) -> String {
    match ms {
        0 => "< 1 ms".to_owned(),
        1..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", f64::from(ms) / 1000.0),
    }
}
