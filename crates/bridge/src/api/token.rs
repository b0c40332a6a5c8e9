//! Signing in: one token at a time, for all callers.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::{Answer, Api, ApiError, Call, Credentials, asked_pause, jitter, shown};

/// How long before its end a token is renewed.
const EARLY: Duration = Duration::from_mins(1);
/// The pause after the rate limiter refused a sign-in: it allows one each second.
const LIMITED: Duration = Duration::from_millis(1100);
/// How often a sign-in is tried that the rate limiter refuses.
const TRIES: usize = 6;

/// The token of an account. Callers wait while one of them signs in.
pub(super) struct Tokens {
    credentials: Credentials,
    current: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    access: String,
    /// With it a personal token's pair is renewed.
    refresh: Option<String>,
    /// The time from which it is renewed; `None` if the server does not say.
    renew_at: Option<Instant>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, current: Mutex::new(None) }
    }

    /// A token that is valid as far as is known.
    pub(super) async fn current(&self, api: &Api) -> Result<String, ApiError> {
        let mut current = self.current.lock().await;
        let is_valid = |token: &Token| token.renew_at.is_none_or(|at| Instant::now() < at);
        if let Some(token) = current.as_ref().filter(|token| is_valid(token)) {
            return Ok(token.access.clone());
        }
        self.renew(api, &mut current).await
    }

    /// Another token than this one, which the server refused.
    pub(super) async fn renewed(&self, api: &Api, refused: &str) -> Result<String, ApiError> {
        let mut current = self.current.lock().await;
        match current.as_ref() {
            Some(token) if token.access != refused => Ok(token.access.clone()),
            _ => self.renew(api, &mut current).await,
        }
    }

    async fn renew(&self, api: &Api, current: &mut Option<Token>) -> Result<String, ApiError> {
        let token = match &self.credentials {
            Credentials::Password { user, password } => {
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs([
                        ("grant_type", "password"),
                        ("username", user),
                        ("password", password),
                    ])
                    .finish();
                sign_in(api, "Token", Call::Form(form)).await?
            }
            Credentials::PersonalToken(personal) => {
                let refresh = current.take().and_then(|token| token.refresh);
                let refreshed = match refresh {
                    Some(refresh) => {
                        let json = serde_json::json!({ "refreshToken": refresh }).to_string();
                        sign_in(
                            api,
                            "refresh",
                            Call::Send(fanfare_outbound::trusted::Method::POST, json),
                        )
                        .await
                        .ok()
                    }
                    None => None,
                };
                if let Some(token) = refreshed {
                    token
                } else {
                    let json = Value::from(personal.as_str()).to_string();
                    sign_in(
                        api,
                        "PersonalToken",
                        Call::Send(fanfare_outbound::trusted::Method::POST, json),
                    )
                    .await?
                }
            }
        };
        let access = token.access.clone();
        *current = Some(token);
        Ok(access)
    }
}

async fn sign_in(api: &Api, path: &str, call: Call) -> Result<Token, ApiError> {
    for _ in 0..TRIES {
        let answer = api.send(path, &call, None).await?;
        match answer.status {
            200..=299 => return token(path, &answer),
            // The rate limiter of anonymous calls.
            409 | 429 => sleep(jitter(asked_pause(&answer).unwrap_or(LIMITED))).await,
            400 | 401 | 403 => return Err(ApiError::SignIn(reason(&answer))),
            404 => return Err(ApiError::NotFound(path.to_owned())),
            300..=399 => return Err(ApiError::Redirect(path.to_owned())),
            status => {
                let text = shown(&answer.body);
                return Err(ApiError::Failing { path: path.to_owned(), status, text });
            }
        }
    }
    let text = ": its rate limiter admits no sign-in".to_owned();
    Err(ApiError::Failing { path: path.to_owned(), status: 409, text })
}

/// Both products name the members differently, and numbers may be texts.
fn token(path: &str, answer: &Answer) -> Result<Token, ApiError> {
    let not_json = || ApiError::NotJson(path.to_owned());
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| not_json())?;
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| body.get(name)?.as_str()).map(str::to_owned)
    };
    let seconds = ["expires_in", "expiresIn"].iter().find_map(|name| match body.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let renew_after = seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(EARLY));
    Ok(Token {
        access: text(["access_token", "accessToken"]).ok_or_else(not_json)?,
        refresh: text(["refresh_token", "refreshToken"]),
        // A token that lives for less than the margin is used until it is refused.
        renew_at: renew_after
            .filter(|after| !after.is_zero())
            .and_then(|after| Instant::now().checked_add(after)),
    })
}

/// The reason of a refusal, as OAuth 2 has it.
fn reason(answer: &Answer) -> String {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let described = body.as_ref().and_then(|body| {
        ["error_description", "error"].iter().find_map(|name| body.get(name)?.as_str())
    });
    let text =
        described.map_or_else(|| shown(&answer.body), |text| format!(": {}", shown_text(text)));
    format!("status {}{text}", answer.status)
}

fn shown_text(text: &str) -> String {
    shown(text.as_bytes()).trim_start_matches(": ").to_owned()
}
