//! The error pages.

use askama::Template;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_app::webhooks::WebhookError;
use fanfare_store::StoreError;

use super::page::{Frame, page, see_other};
use super::{SIGN_IN, fields};
use crate::api::problem::{Problem, RETRY_AFTER_SECONDS};

/// Why a page can't be shown, or a form was not processed.
#[derive(Debug)]
pub(crate) enum PageError {
    /// The visitor has to sign in, and then continues with this path of the console.
    SignIn { next: String, htmx: bool },
    /// The page does not exist for the visitor.
    Unknown,
    /// The request does not come from a page of the console, or it comes from a page of an earlier
    /// session.
    Forged,
    /// The form can't be read.
    Body(Problem),
    /// The database can't be reached.
    Unavailable,
    /// The database took too long to answer.
    TookTooLong,
    /// An internal error; the log has the cause.
    Internal,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    title: &'static str,
    text: &'static str,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { next, htmx } => to_sign_in(&next, htmx),
            Self::Unknown => error_page(
                StatusCode::NOT_FOUND,
                "There is nothing here",
                "The webhook or page does not exist, was deleted, or belongs to somebody else.",
            ),
            Self::Forged => error_page(
                StatusCode::FORBIDDEN,
                "That was not done",
                "The request did not come from a page of your present session. Go back, reload \
                 the page, and try again.",
            ),
            Self::Body(Problem::TooLarge) => error_page(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That is too large",
                "A form may have at most 1 MiB.",
            ),
            Self::Body(_) => error_page(
                StatusCode::BAD_REQUEST,
                "That did not arrive whole",
                "The form ended too early. Go back and send it again.",
            ),
            Self::Unavailable => retry_page(
                "The service is not available for now",
                "It can't reach its database. Nothing is lost; try again in a moment.",
            ),
            Self::TookTooLong => retry_page(
                "That took too long",
                "The database has too much to look through. Ask for less, or try again later.",
            ),
            Self::Internal => error_page(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "The log of the service says more.",
            ),
        }
    }
}

fn error_page(status: StatusCode, title: &'static str, text: &'static str) -> Response {
    page(status, &ErrorPage { frame: Frame::anonymous(), title, text })
}

/// A page about a state that passes.
fn retry_page(title: &'static str, text: &'static str) -> Response {
    let mut response = error_page(StatusCode::SERVICE_UNAVAILABLE, title, text);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

fn to_sign_in(next: &str, htmx: bool) -> Response {
    let path = fields::path(SIGN_IN, &[("next", next)]);
    if !htmx {
        return see_other(&path);
    }
    // A part of a page can't be replaced by the sign-in form, so the whole page is.
    whole_page(StatusCode::UNAUTHORIZED, &path)
}

/// Sends the browser to another page, in answer to a request for a part of a page.
pub(super) fn whole_page(status: StatusCode, path: &str) -> Response {
    let mut response = status.into_response();
    if let Ok(path) = HeaderValue::from_str(path) {
        response.headers_mut().insert(HeaderName::from_static("hx-redirect"), path);
    }
    response
}

/// Whether the client is a browser that shows pages.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// Answers a request for a path that does not exist, with a page for browsers and JSON for other
/// clients.
pub(crate) async fn no_route(request: Request) -> Response {
    if is_browser(request.headers()) && !request.uri().path().starts_with("/api/") {
        return PageError::Unknown.into_response();
    }
    crate::api::problem::no_route()
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Unavailable => Self::Unavailable,
            Problem::TookTooLong => Self::TookTooLong,
            problem @ (Problem::TooLarge | Problem::BrokenOff) => Self::Body(problem),
            Problem::Unknown | Problem::NotAdministrator => Self::Unknown,
            _ => Self::Internal,
        }
    }
}

impl From<WebhookError> for PageError {
    fn from(error: WebhookError) -> Self {
        Problem::from(error).into()
    }
}
