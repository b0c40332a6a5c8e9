//! Events, for administrators: the newest ones by filters in the address, and one with its plan and why each
//! webhook got it or did not.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::events;
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::payload::WhyRemoved;
use fanfare_core::resource::Resource;
use fanfare_store::events::{EventFilter, EventPage, EventPosition, EventSummary};
use fanfare_store::explain::ExplainFilter;

use super::components::{Moment, shortened};
use super::deliveries::query;
use super::error::PageError;
use super::explanation::{Verdict, event_path, verdicts};
use super::fields::{self, Fields};
use super::page::{Frame, page};
use super::visitor::Visitor;
use super::{EVENTS, audit};
use crate::app::Shared;
use crate::v1::list::cursor;
use crate::v1::request::Parameter as _;

/// The number of events on a page.
const PAGE: i64 = 50;
/// The most webhooks whose verdicts are shown.
const EXPLAINED: usize = 100;
/// The most characters of a notification.
const BODY: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "events.html")]
struct List {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    first: Option<String>,
    next: Option<String>,
}

/// The filters as they were sent, and whether a value can't be read.
#[derive(Default)]
struct Form {
    id: String,
    event_type: String,
    resource: String,
    webhook: String,
    state: String,
    from: String,
    to: String,
    wrong: Option<&'static str>,
}

/// An event as it is shown.
struct Row {
    path: String,
    id: String,
    source: String,
    event_type: String,
    subject: String,
    received_at: Moment,
    webhooks: i32,
    settled: bool,
}

#[derive(Template)]
#[template(path = "event.html")]
struct One {
    frame: Frame,
    row: Row,
    /// The events about the same resource.
    resource_path: String,
    happened_at: Option<Moment>,
    access_revision: Option<i64>,
    decided_revision: i64,
    traceparent: Option<String>,
    notification: String,
    removed: Option<&'static str>,
    webhook: String,
    owner: String,
    wrong: Option<&'static str>,
    verdicts: Vec<Verdict>,
    is_cut: bool,
}

#[derive(Template)]
#[template(path = "event_which.html")]
struct Which {
    frame: Frame,
    id: String,
    rows: Vec<Row>,
}

/// `GET`: lists the newest events.
pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let after = EventPosition::read(query.text("after")).ok();
    let (filter, form) = filter(&query, after, (app.clock)());
    let (context, actor) = (&app.context, visitor.actor());
    let EventPage { events, next } = if form.wrong.is_some() {
        EventPage::default()
    } else if form.id.is_empty() {
        events::list(context, &actor, filter).await?
    } else {
        EventPage { events: events::named(context, &actor, &form.id).await?, next: None }
    };
    actor.administrator().map_err(|_| PageError::Unknown)?;
    let at = |after: &str| {
        let filters = [
            ("id", form.id.as_str()),
            ("type", form.event_type.as_str()),
            ("resource", form.resource.as_str()),
            ("webhook", form.webhook.as_str()),
            ("state", form.state.as_str()),
            ("from", form.from.as_str()),
            ("to", form.to.as_str()),
            ("after", after),
        ];
        fields::path(EVENTS, &filters)
    };
    let shown = List {
        frame: visitor.frame().of_events(),
        rows: events.iter().map(row).collect(),
        first: after.map(|_| at("")),
        next: next.map(|next| at(&cursor(&next))),
        form,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// `GET`: shows an event, its plan, and each webhook's verdict.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let text = |name: &str| query.text(name).replace('\0', "");
    let (id, source) = (text("id"), Some(text("source")).filter(|it| !it.is_empty()));
    let (context, actor) = (&app.context, visitor.actor());
    let found = events::named(context, &actor, &id).await?;
    if source.is_none() && found.len() > 1 {
        let rows = found.iter().map(row).collect();
        let which = Which { frame: visitor.frame().of_events(), id, rows };
        return Ok(page(StatusCode::OK, &which));
    }
    let (event, detail) = events::show(context, &actor, &id, source.as_deref()).await?;
    let (webhook, owner) = (text("webhook"), text("owner"));
    let (wanted, of) = (webhook.parse::<WebhookId>().ok(), Name::parse(&owner));
    let is_wrong = (!webhook.is_empty() && wanted.is_none()) || (!owner.is_empty() && of.is_none());
    let filter = ExplainFilter { webhook: wanted, owner: of, limit: EXPLAINED };
    let explained = events::explain(context, &actor, &id, Some(&event.source), filter).await;
    let (explained, unknown) = match explained {
        Ok(explanation) => (Some(explanation.explained), None),
        Err(events::EventError::UnknownWebhook) => (None, Some("There is no such webhook.")),
        Err(error) => return Err(error.into()),
    };
    let shown = One {
        frame: visitor.frame().of_events(),
        row: row(&event),
        resource_path: fields::path(EVENTS, &[("resource", &event.subject)]),
        happened_at: event.time.map(Moment),
        access_revision: event.access_revision,
        decided_revision: event.decided_revision,
        traceparent: detail.traceparent,
        notification: shortened(&detail.notification, BODY),
        removed: detail.payload_removed.map(WhyRemoved::sentence),
        webhook,
        owner,
        wrong: if is_wrong {
            Some("This is no webhook’s id, or no valid name.")
        } else {
            unknown
        },
        is_cut: explained.as_ref().is_some_and(|it| it.cut),
        verdicts: explained.map(|it| verdicts(&actor, &it)).unwrap_or_default(),
    };
    Ok(page(StatusCode::OK, &shown))
}

/// Reads the filters. Days are those of UTC, and both ends are included.
fn filter(query: &Fields, after: Option<EventPosition>, now: DateTime<Utc>) -> (EventFilter, Form) {
    let text = |name: &str| query.text(name).replace('\0', "");
    let mut form = Form {
        id: text("id"),
        event_type: text("type"),
        resource: text("resource"),
        webhook: text("webhook"),
        state: text("state"),
        from: text("from"),
        to: text("to"),
        wrong: None,
    };
    let event_type = Some(form.event_type.as_str()).filter(|it| !it.is_empty());
    let event_type = event_type.and_then(|it| Filters::parse(&[it]).ok());
    let event_type = event_type.and_then(|it| it.stored().first().map(|it| (*it).to_owned()));
    let (subject, webhook) = (Resource::parse(&form.resource).ok(), form.webhook.parse().ok());
    let (since, until) = (audit::day(&form.from), audit::day(&form.to));
    let mut refuse = |text: &str, is_read: bool, problem: &'static str| {
        if !text.is_empty() && !is_read {
            form.wrong = Some(problem);
        }
    };
    let wrong_type = "Write the type as reports.upload, or only reports.";
    refuse(&form.event_type, event_type.is_some(), wrong_type);
    let wrong_path =
        "Write the resource as categories/{id}/reports/{id}, or another path of a resource.";
    refuse(&form.resource, subject.is_some(), wrong_path);
    refuse(&form.webhook, webhook.is_some(), "A webhook’s id has 32 hex digits.");
    refuse(&form.from, since.is_some(), "Write the first day as 2026-11-23.");
    refuse(&form.to, until.is_some(), "Write the last day as 2026-11-23.");
    let since = since.map(audit::begin);
    let until = until.and_then(|day| day.succ_opt()).map(audit::begin);
    let filter = EventFilter {
        event_type,
        subject,
        webhook,
        settled: match form.state.as_str() {
            "ended" => Some(true),
            "under-way" => Some(false),
            _ => None,
        },
        since: since.map(|since| (now - since).to_std().unwrap_or_default()),
        after: after.or_else(|| until.map(EventPosition::before)),
        limit: PAGE,
    };
    (filter, form)
}

fn row(event: &EventSummary) -> Row {
    Row {
        path: event_path(event),
        id: event.id.clone(),
        source: event.source.clone(),
        event_type: event.event_type.clone(),
        subject: event.subject.clone(),
        received_at: Moment(event.received_at),
        webhooks: event.webhooks,
        settled: event.settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> (EventFilter, Form) {
        filter(&Fields::parse(query.as_bytes()), None, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn filters_are_read_from_the_address() {
        let query = "type=Reports.Upload&resource=tasks/t1&state=under-way&to=2026-11-23";
        let (filter, form) = read(query);
        assert_eq!(form.wrong, None);
        assert_eq!(filter.event_type.as_deref(), Some("reports.upload"));
        assert_eq!((filter.settled, filter.subject.is_some()), (Some(false), true));
        let day_after = "2026-11-24T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(filter.after.unwrap().received_at, day_after);
    }

    #[test]
    fn values_that_can_not_be_read_are_reported() {
        for query in ["type=galaxies", "resource=nowhere/x", "webhook=7", "from=x", "to=x"] {
            assert!(read(query).1.wrong.is_some(), "{query}");
        }
        assert_eq!(read("type=&resource=&id=").1.wrong, None);
    }
}
