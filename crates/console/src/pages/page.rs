//! From a template to an answer, with what a browser may do with it.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::assets::{PATHS, Paths};
use super::components::FormToken;

/// Nothing runs, loads or is sent but what is ours; nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    // With less, browsers would not say that a form comes from here.
    (header::REFERRER_POLICY, "same-origin"),
];

/// What is around every page.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) paths: &'static Paths,
    pub(super) user: Option<CurrentUser>,
}

/// CurrentUser looks at the page.
#[derive(Debug)]
pub(super) struct CurrentUser {
    pub(super) name: String,
    pub(super) administrator: bool,
    pub(super) token: FormToken,
}

impl Frame {
    /// For somebody who is not signed in.
    pub(super) fn anonymous() -> Self {
        Self { paths: &PATHS, user: None }
    }

    /// For somebody who is.
    pub(super) fn of(user: CurrentUser) -> Self {
        Self { paths: &PATHS, user: Some(user) }
    }
}

/// An answer with this page.
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

/// An answer that sends the browser on to a page of ours.
pub(super) fn see_other(path: &str) -> Response {
    let path = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}
