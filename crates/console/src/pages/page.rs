//! Answers with rendered templates, and their security headers.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::assets::{PATHS, Paths};
use super::components::FormToken;

/// Scripts, styles and images come from the console only, and none are inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    // With a stricter value, browsers would not say that a form comes from the console.
    (header::REFERRER_POLICY, "same-origin"),
];

/// The frame around every page.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) paths: &'static Paths,
    pub(super) user: Option<CurrentUser>,
    /// The part of the console that the page belongs to.
    pub(super) part: Part,
}

/// A part of the console, with an entry in its navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Webhooks,
    /// For administrators.
    Overview,
    Audit,
    Notices,
    /// For administrators.
    Events,
    /// For administrators.
    DeadLetters,
    /// For administrators.
    Operations,
    /// For administrators.
    Directory,
    /// For administrators.
    Accounts,
    /// For administrators.
    Storage,
}

/// The user who is signed in.
#[derive(Debug)]
pub(super) struct CurrentUser {
    pub(super) name: String,
    pub(super) administrator: bool,
    pub(super) token: FormToken,
    /// Whether Fanfare is in shadow mode.
    pub(super) shadow: bool,
}

impl Frame {
    /// The frame for a visitor who is not signed in.
    pub(super) fn anonymous() -> Self {
        Self { paths: &PATHS, user: None, part: Part::Webhooks }
    }

    /// The frame for a user who is signed in.
    pub(super) fn of(user: CurrentUser) -> Self {
        Self { paths: &PATHS, user: Some(user), part: Part::Webhooks }
    }

    /// Whether the user who is signed in is an administrator.
    pub(super) fn is_for_administrator(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.administrator)
    }

    pub(super) fn is_webhooks(&self) -> bool {
        self.part == Part::Webhooks
    }

    pub(super) fn is_overview(&self) -> bool {
        self.part == Part::Overview
    }

    pub(super) fn is_audit(&self) -> bool {
        self.part == Part::Audit
    }

    pub(super) fn is_notices(&self) -> bool {
        self.part == Part::Notices
    }

    pub(super) fn is_events(&self) -> bool {
        self.part == Part::Events
    }

    pub(super) fn is_dead_letters(&self) -> bool {
        self.part == Part::DeadLetters
    }

    pub(super) fn is_operations(&self) -> bool {
        self.part == Part::Operations
    }

    pub(super) fn is_directory(&self) -> bool {
        self.part == Part::Directory
    }

    pub(super) fn is_accounts(&self) -> bool {
        self.part == Part::Accounts
    }

    pub(super) fn is_storage(&self) -> bool {
        self.part == Part::Storage
    }

    /// The same frame around the overview.
    pub(super) fn of_overview(self) -> Self {
        Self { part: Part::Overview, ..self }
    }

    /// The same frame around the audit trail.
    pub(super) fn of_audit(self) -> Self {
        Self { part: Part::Audit, ..self }
    }

    /// The same frame around the notices.
    pub(super) fn of_notices(self) -> Self {
        Self { part: Part::Notices, ..self }
    }

    /// The same frame around the events.
    pub(super) fn of_events(self) -> Self {
        Self { part: Part::Events, ..self }
    }

    /// The same frame around the dead letters.
    pub(super) fn of_dead_letters(self) -> Self {
        Self { part: Part::DeadLetters, ..self }
    }

    /// The same frame around the bulk operations.
    pub(super) fn of_operations(self) -> Self {
        Self { part: Part::Operations, ..self }
    }

    /// The same frame around the directory.
    pub(super) fn of_directory(self) -> Self {
        Self { part: Part::Directory, ..self }
    }

    /// The same frame around the local accounts.
    pub(super) fn of_accounts(self) -> Self {
        Self { part: Part::Accounts, ..self }
    }

    /// The same frame around the sizes of what the database holds.
    pub(super) fn of_storage(self) -> Self {
        Self { part: Part::Storage, ..self }
    }
}

/// Makes an answer with this page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            let mut response = (status, html).into_response();
            for (name, value) in HEADERS {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "failed to render a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Makes an answer that redirects the browser to another page.
pub(super) fn see_other(path: &str) -> Response {
    let path = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}
