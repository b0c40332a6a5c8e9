//! The audit trail: all entries for administrators, and for others what concerns their own webhooks.
//! The filters and the page are in the address.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use fanfare_app::audit::{self, AuditError, AuditPage};
use fanfare_core::audit::Action;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_store::audit::{AuditFilter, AuditPosition};

use super::deliveries::query;
use super::error::PageError;
use super::fields::{self, Fields};
use super::history::{self, Row};
use super::page::{Frame, page};
use super::visitor::Visitor;
use super::{AUDIT, text};
use crate::app::{App, Shared};

/// The number of entries on a page.
const PAGE: i64 = 50;
/// The number of entries on a webhook's page.
const RECENT: i64 = 5;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditTrail {
    frame: Frame,
    administrator: bool,
    form: Form,
    actions: Vec<Choice>,
    rows: Vec<Row>,
    first: Option<String>,
    next: Option<String>,
}

/// The filters as they were sent, and whether a value can't be read.
#[derive(Default)]
struct Form {
    webhook: String,
    actor: String,
    from: String,
    to: String,
    wrong: Option<&'static str>,
}

/// An action that can be chosen.
struct Choice {
    code: &'static str,
    label: &'static str,
    chosen: bool,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let (filter, form) = filter(&query);
    let (after, action) = (filter.after, filter.action);
    let found = if form.wrong.is_some() {
        AuditPage { entries: Vec::new(), next: None }
    } else {
        audit::list(&app.context, &visitor.actor(), filter).await?
    };
    let code = action.map_or("", Action::code);
    let at = |after: &str| {
        let filters = [
            ("webhook", form.webhook.as_str()),
            ("actor", form.actor.as_str()),
            ("action", code),
            ("from", form.from.as_str()),
            ("to", form.to.as_str()),
            ("after", after),
        ];
        fields::path(AUDIT, &filters)
    };
    let shown = AuditTrail {
        frame: visitor.frame().of_audit(),
        administrator: visitor.caller.administrator,
        actions: actions(action),
        rows: found.entries.iter().map(history::row).collect(),
        first: after.map(|_| at("")),
        next: found.next.map(|next| at(&anchor(next))),
        form,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// The newest entries of a webhook.
pub(super) async fn recent(
    app: &App,
    visitor: &Visitor,
    id: WebhookId,
) -> Result<Vec<Row>, PageError> {
    let filter = AuditFilter { webhook: Some(id), limit: RECENT, ..AuditFilter::default() };
    let found = audit::list(&app.context, &visitor.actor(), filter).await?;
    Ok(found.entries.iter().map(history::row).collect())
}

/// The path of a webhook's entries.
pub(super) fn path(id: WebhookId) -> String {
    fields::path(AUDIT, &[("webhook", &id.to_string())])
}

/// Reads the filters. Days are those of UTC, and both ends are included.
fn filter(query: &Fields) -> (AuditFilter, Form) {
    let text = |name: &str| query.text(name).replace('\0', "");
    let form = Form {
        webhook: text("webhook"),
        actor: text("actor"),
        from: text("from"),
        to: text("to"),
        wrong: None,
    };
    let mut wrong = None;
    let mut read = |text: &str, problem: &'static str, is_read: bool| {
        if !text.is_empty() && !is_read {
            wrong = Some(problem);
        }
    };
    let webhook = form.webhook.parse().ok();
    let actor = Name::parse(&form.actor);
    let (since, until) = (day(&form.from), day(&form.to).and_then(|day| day.succ_opt()));
    read(&form.webhook, "A webhook\u{2019}s id has 32 hex digits.", webhook.is_some());
    read(&form.actor, "This is not a valid name.", actor.is_some());
    read(&form.from, "Write the first day as 2026-11-23.", since.is_some());
    read(&form.to, "Write the last day as 2026-11-23.", until.is_some());
    let filter = AuditFilter {
        webhook,
        actor,
        action: Action::parse(query.text("action")),
        since: since.map(begin),
        until: until.map(begin),
        after: position(query.text("after")),
        limit: PAGE,
        ..AuditFilter::default()
    };
    (filter, Form { wrong, ..form })
}

/// A day between the years that the database can store.
pub(super) fn day(text: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (text.len() == "2026-11-23".len()).then_some(day)
}

/// The beginning of a day.
pub(super) fn begin(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

fn actions(chosen: Option<Action>) -> Vec<Choice> {
    let choice = |action: &Action| Choice {
        code: action.code(),
        label: text::known_action(*action),
        chosen: chosen == Some(*action),
    };
    Action::ALL.iter().map(choice).collect()
}

/// Encodes a position in the list for an address.
fn anchor(position: AuditPosition) -> String {
    format!("{}.{}", position.at.timestamp_micros(), position.id)
}

fn position(text: &str) -> Option<AuditPosition> {
    let (at, id) = text.split_once('.')?;
    let micros = at.parse().ok().filter(|micros| (0..253_402_300_800_000_000).contains(micros))?;
    let at: DateTime<Utc> = DateTime::from_timestamp_micros(micros)?;
    Some(AuditPosition { at, id: id.parse().ok()? })
}

impl From<AuditError> for PageError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::NotAdministrator(_) => Self::Unknown,
            AuditError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> (AuditFilter, Form) {
        filter(&Fields::parse(query.as_bytes()))
    }

    #[test]
    fn a_position_in_the_list_reads_back() {
        let at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let there = AuditPosition { at, id: 7 };
        assert_eq!(position(&anchor(there)), Some(there));
        for nonsense in ["", "1", "x.y", "99999999999999999999.1", "9223372036854775807.1"] {
            assert_eq!(position(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_last_day_is_included() {
        let (filter, form) = read("from=2026-11-23&to=2026-11-23&action=webhook.paused");
        let day = filter.until.unwrap() - filter.since.unwrap();
        assert_eq!((day.num_hours(), form.wrong), (24, None));
        assert_eq!(filter.action, Some(Action::WebhookPaused));
    }

    #[test]
    fn values_that_can_not_be_read_are_reported() {
        for query in ["webhook=7", "from=yesterday", "to=23.11.2026", "from=92026-01-01"] {
            assert!(read(query).1.wrong.is_some(), "{query}");
        }
        assert!(read("webhook=&actor=&from=&to=&action=").1.wrong.is_none());
    }
}
