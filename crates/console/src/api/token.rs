//! `/Token`: an access token for a name and a password (RFC 6749, section 4.3).

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfare_core::duration::seconds_to_wait;
use fanfare_http::Peer;
use serde::Serialize;
use url::form_urlencoded;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::body;
use super::json::json;
use super::problem::{Problem, RETRY_AFTER_SECONDS, UNAVAILABLE};
use crate::app::Shared;
use crate::auth::passwords::{SESSION, SignInError, sign_in};

/// The form that a client sends.
// Only the API's description uses this type. The handler reads a `Form`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub(crate) struct TokenRequest {
    #[schema(schema_with = grant_type)]
    grant_type: String,
    username: String,
    password: String,
}

fn grant_type() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["password"])).build()
}

/// An access token.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
pub(crate) struct TokenResponse<'a> {
    /// The token, for `Authorization: Bearer …`.
    access_token: &'a str,
    /// Always `bearer`.
    token_type: &'static str,
    /// The lifetime of the token, in seconds.
    expires_in: u64,
}

/// Sign in.
///
/// The form has `grant_type=password`, `username` and `password`. Failures are OAuth error objects.
#[utoipa::path(
    post,
    path = "/Token",
    tag = "Tokens",
    security(),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "An access token.", body = TokenResponse<'static>),
        (status = 400),
        (status = 429),
    )
)]
pub(crate) async fn grant(
    State(app): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, GrantError> {
    let form = body::read(body).await.map_err(GrantError::Body)?;
    let Form { username, password } = Form::parse(&form)?;
    let token = sign_in(&app.accounts, peer.0.into(), &username, password).await?;
    let granted = TokenResponse {
        access_token: token.reveal(),
        token_type: "bearer",
        expires_in: SESSION.as_secs(),
    };
    Ok(json(StatusCode::OK, &granted))
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Why no token was granted.
#[derive(Debug)]
pub(crate) enum GrantError {
    /// The body could not be read.
    Body(Problem),
    /// The form is not valid.
    Form(BadForm),
    /// The sign-in was refused.
    SignIn(SignInError),
}

/// Why a form is not valid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadForm {
    /// A parameter is missing.
    Missing(&'static str),
    /// A parameter appears more than once.
    Repeated(&'static str),
    /// The grant type is not `password`.
    GrantType,
}

impl Form {
    pub(crate) fn parse(form: &[u8]) -> Result<Self, BadForm> {
        let parameter = |name: &'static str| {
            let mut values = form_urlencoded::parse(form).filter(|(known, _)| known == name);
            let value = values.next().map(|(_, value)| value.into_owned());
            match values.next() {
                Some(_) => Err(BadForm::Repeated(name)),
                None => value.filter(|value| !value.is_empty()).ok_or(BadForm::Missing(name)),
            }
        };
        if parameter("grant_type")? != "password" {
            return Err(BadForm::GrantType);
        }
        Ok(Self { username: parameter("username")?, password: parameter("password")? })
    }
}

impl From<BadForm> for GrantError {
    fn from(bad: BadForm) -> Self {
        Self::Form(bad)
    }
}

impl From<SignInError> for GrantError {
    fn from(denied: SignInError) -> Self {
        Self::SignIn(denied)
    }
}

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl IntoResponse for GrantError {
    fn into_response(self) -> Response {
        match self {
            Self::Body(problem) => problem.into_response(),
            Self::Form(BadForm::GrantType) => {
                bad_request("unsupported_grant_type", "The grant_type must be 'password'.")
            }
            Self::Form(BadForm::Missing(name)) => bad_request(
                "invalid_request",
                &format!("The form (application/x-www-form-urlencoded) has no {name}."),
            ),
            Self::Form(BadForm::Repeated(name)) => {
                bad_request("invalid_request", &format!("The form has {name} more than once."))
            }
            Self::SignIn(SignInError::NoAccounts) => bad_request(
                "unsupported_grant_type",
                "There are no accounts here; get an access token at the identity provider.",
            ),
            Self::SignIn(SignInError::Wrong) => {
                bad_request("invalid_grant", "The user name or password is incorrect.")
            }
            Self::SignIn(SignInError::TooMany { wait }) => too_many(wait),
            Self::SignIn(SignInError::Store(error)) => match Problem::from(error) {
                Problem::Unavailable => {
                    let answer = failed(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "temporarily_unavailable",
                        UNAVAILABLE,
                    );
                    retry_after(answer, RETRY_AFTER_SECONDS)
                }
                problem => problem.into_response(),
            },
        }
    }
}

fn too_many(wait: Duration) -> Response {
    let seconds = seconds_to_wait(wait);
    let text = format!("Too many attempts. Try again in {seconds} s.");
    let answer = failed(StatusCode::TOO_MANY_REQUESTS, "slow_down", &text);
    retry_after(answer, seconds.to_string().parse().unwrap_or(RETRY_AFTER_SECONDS))
}

fn bad_request(error: &str, description: &str) -> Response {
    failed(StatusCode::BAD_REQUEST, error, description)
}

fn failed(status: StatusCode, error: &str, description: &str) -> Response {
    json(status, &Error { error, error_description: description })
}

fn retry_after(mut response: Response, value: HeaderValue) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_needs_grant_type_user_name_and_password_once() {
        let form = Form::parse(b"grant_type=password&username=%C3%A4nna&password=a%26b+c&x=y");
        let expected = Form { username: "änna".to_owned(), password: "a&b c".to_owned() };
        assert_eq!(form, Ok(expected));
        for (form, wrong) in [
            ("", BadForm::Missing("grant_type")),
            ("{\"grant_type\":\"password\"}", BadForm::Missing("grant_type")),
            ("grant_type=refresh_token", BadForm::GrantType),
            ("grant_type=password&password=a", BadForm::Missing("username")),
            ("grant_type=password&username=a&password=", BadForm::Missing("password")),
            ("grant_type=password&username=a&username=b&password=c", BadForm::Repeated("username")),
        ] {
            assert_eq!(Form::parse(form.as_bytes()), Err(wrong), "{form}");
        }
    }
}
