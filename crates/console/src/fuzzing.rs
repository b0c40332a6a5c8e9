//! The parsers of this crate, as the fuzzing of Fanfare calls them. Nothing else does.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use fanfare_store::deliveries::Position;
use fanfare_store::events::EventPosition;

use crate::api::token::Form;
use crate::auth::{bearer, cookie, forgery};
use crate::oidc::flow::Flow;
use crate::oidc::token_summary::TokenSummary;
use crate::pages::sign_in;
use crate::site::Site;
use crate::v1::problem::FieldError;
use crate::v1::request::{self, Parameter};
use crate::v1::{dead_letters, deliveries, events, list};

/// What is wrong with a query of `/api/v1`: each parameter, with a sentence.
type Wrong = Vec<(String, String)>;

/// Reads the query of one of the lists of `/api/v1`, by its number.
///
/// # Errors
///
/// Everything that is wrong.
pub fn query(list: u8, text: &str) -> Result<(), Wrong> {
    let read = match list % 4 {
        0 => request::read::<deliveries::ListQuery>(text).map(drop),
        1 => request::read::<events::ListQuery>(text).map(drop),
        2 => request::read::<dead_letters::ListQuery>(text).map(drop),
        _ => request::read::<events::EventQuery>(text).map(drop),
    };
    let pair = |FieldError { name, detail }| (name, detail);
    read.map_err(|wrong| wrong.into_iter().map(pair).collect())
}

/// The cursors that a cursor reads as, written again.
#[must_use]
pub fn cursors(text: &str) -> [Option<String>; 2] {
    let delivery = Position::read(text).ok();
    let event = EventPosition::read(text).ok();
    [delivery.map(|it| list::cursor(&it)), event.map(|it| list::cursor(&it))]
}

/// The user name and the password of a form that asks for an access token.
#[must_use]
pub fn token_form(form: &[u8]) -> Option<(String, String)> {
    Form::parse(form).ok().map(|Form { username, password }| (username, password))
}

/// What is read from the headers of a request.
#[derive(Debug)]
pub struct Request {
    pub bearer: Option<String>,
    pub session: Option<String>,
    /// The path to continue with after a sign-in at the provider.
    pub next: Option<String>,
    /// The address of the console's page `/x`.
    pub address: String,
    /// Whether the request counts as one of the console's own pages.
    pub is_own: bool,
}

/// Reads the headers of a request. Those that HTTP does not allow are left out.
#[must_use]
pub fn request(headers: &[(&[u8], &[u8])]) -> Request {
    let map: HeaderMap =
        headers.iter().filter_map(|(name, value)| header_of(name, value)).collect();
    let site = Site::new(None);
    Request {
        bearer: bearer::token(&map).map(str::to_owned),
        session: cookie::token(&site, &map).map(str::to_owned),
        next: cookie::flow(&site, &map).map(|flow| flow.next().to_owned()),
        address: site.absolute(&map, "/x"),
        is_own: forgery::sender(&site, &map) == forgery::Sender::SameOrigin,
    }
}

fn header_of(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// The cookie of a sign-in at the provider, read and written again.
#[must_use]
pub fn flow(cookie: &str) -> Option<String> {
    Flow::of_cookie(cookie).map(|flow| flow.cookie())
}

/// What the log shows of a token that the identity provider, or anyone, has signed.
#[must_use]
pub fn token_summary(token: &str) -> String {
    let TokenSummary { algorithm, issuer, audience } = TokenSummary::of(token);
    format!("{algorithm} {issuer} {audience}")
}

/// The path that a browser is sent to after a sign-in that was begun for the path `next`.
#[must_use]
pub fn local(next: &str) -> &str {
    sign_in::local(next)
}
