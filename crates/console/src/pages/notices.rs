//! Notices: for administrators those about the installation and all webhooks, for others those about
//! their own webhooks. The page is in the address.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::notices::{self, NoticeError};
use fanfare_store::notices::{Listed, Send, SendState};
use uuid::Uuid;

use super::components::Moment;
use super::deliveries::query;
use super::error::PageError;
use super::page::{Frame, page};
use super::visitor::Visitor;
use super::{NOTICES, fields, text};
use crate::app::Shared;

/// The number of notices on a page.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "notices.html")]
struct Notices {
    frame: Frame,
    administrator: bool,
    rows: Vec<Row>,
    first: bool,
    next: Option<String>,
}

/// A notice as the page shows it.
struct Row {
    at: Moment,
    kind: &'static str,
    sentence: String,
    /// The webhook's id, and its owner.
    webhook: Option<(String, String)>,
    sends: Vec<Sending>,
}

/// The sending of a notice by one channel.
struct Sending {
    channel: &'static str,
    sent_at: Option<Moment>,
    /// Whether it is still to be sent.
    waits: bool,
    failure: Option<String>,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let after = query(&uri).text("after").parse::<Uuid>().ok();
    let listed = notices::list(&app.context, &visitor.actor(), None, after, PAGE).await?;
    let shown = Notices {
        frame: visitor.frame().of_notices(),
        administrator: visitor.caller.administrator,
        rows: listed.notices.iter().map(row).collect(),
        first: after.is_none(),
        next: listed.next.map(|id| fields::path(NOTICES, &[("after", &id.simple().to_string())])),
    };
    Ok(page(StatusCode::OK, &shown))
}

fn row(listed: &Listed) -> Row {
    let notice = &listed.notice;
    let sending = |send: &Send| Sending {
        channel: text::channel(send.channel),
        sent_at: send.sent_at.map(Moment),
        waits: send.state == SendState::Waiting,
        failure: send.failure.clone(),
    };
    Row {
        at: Moment(notice.at),
        kind: notice.kind.code(),
        sentence: notice.sentence(),
        webhook: notice.webhook.as_ref().map(|it| (it.id.to_string(), it.owner.clone())),
        sends: listed.sends.iter().map(sending).collect(),
    }
}

impl From<NoticeError> for PageError {
    fn from(error: NoticeError) -> Self {
        match error {
            NoticeError::NotAdministrator(_) => Self::Unknown,
            NoticeError::Store(error) => error.into(),
        }
    }
}
