//! The client of the report server's REST API.
//!
//! It signs in when it must, repeats what may be repeated, and refuses answers that are none: a page
//! for signing in, or a redirect. No decision depends on the text of an error.

mod token;

use std::time::Duration;

use fanfare_core::chain::chain;
use fanfare_outbound::BuildError;
use fanfare_outbound::trusted::Method;
use fanfare_outbound::trusted::{Answer, Client, Limits, RequestError};
use tokio::time::sleep;
use url::Url;

use token::Tokens;

/// The longest time for a call. A list of ten thousand users takes seconds.
const CALL_TIME: Duration = Duration::from_mins(1);
/// The largest answer: a list of some ten thousand users.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// The pauses before a call is repeated that the server could not answer.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// The longest pause that the server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// The longest part of an answer that an error shows.
const SHOWN: usize = 200;

/// The API of one report server, for one account.
#[derive(Debug)]
pub struct Api {
    http: Client,
    base: Url,
    tokens: Tokens,
    pauses: &'static [Duration],
}

/// How the bridge signs in.
#[derive(Clone)]
pub enum Credentials {
    /// A local user of the report server.
    Password { user: String, password: String },
    /// A personal token, which is exchanged for others.
    PersonalToken(String),
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the report server does not answer: {0}")]
    NoAnswer(#[from] RequestError),
    #[error(
        "the report server refuses the bridge's account ({0}); check FANFARE_BRIDGE_USER and \
         FANFARE_BRIDGE_PASSWORD, and that it is a local user that is enabled"
    )]
    SignIn(String),
    #[error(
        "the report server does not accept its own token at {0}; is the account still enabled?"
    )]
    Token(String),
    #[error("the bridge's account may not call {0}; make it a member of System Administrator")]
    Forbidden(String),
    #[error("the report server has no {0}")]
    NotFound(String),
    #[error(
        "{0} answers a page or something else that is not JSON; check FANFARE_BRIDGE_SERVER: it must \
         be the address of the report server itself, without a proxy that asks people to sign in"
    )]
    NotJson(String),
    #[error("{0} answers a redirect to another address; set FANFARE_BRIDGE_SERVER to that address")]
    Redirect(String),
    #[error("the report server is busy or failing at {path}: status {status}{text}")]
    Failing { path: String, status: u16, text: String },
    #[error("the report server refuses {path} with status {status}{text}")]
    Refused { path: String, status: u16, text: String },
}

impl ApiError {
    /// Whether there is no such path or object: another version of the API may have it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Refused { status: 400, .. })
    }
}

impl Api {
    /// Makes a client. `base` is the address of the report server.
    ///
    /// # Errors
    ///
    /// The HTTP client can't be made.
    pub fn new(user_agent: &str, base: &Url, credentials: Credentials) -> Result<Self, BuildError> {
        let limits = Limits { time: CALL_TIME, answer: LARGEST_ANSWER };
        let http = Client::with_limits(user_agent, limits)?;
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { http, base, tokens: Tokens::new(credentials), pauses: &PAUSES })
    }

    /// The same for a person who waits: a call that the server could not answer is repeated once.
    #[must_use]
    pub fn impatient(self) -> Self {
        let pauses = PAUSES.get(..1).unwrap_or_default();
        Self { pauses, ..self }
    }

    /// Gets a list or an object; `path` is below the address of the report server.
    ///
    /// # Errors
    ///
    /// [`ApiError`]
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, ApiError> {
        Ok(self.call(path, Call::Get).await?.body)
    }

    /// Creates (`POST`) or replaces (`PUT`) an object.
    ///
    /// # Errors
    ///
    /// [`ApiError`]
    pub async fn put(&self, method: Method, path: &str, json: String) -> Result<Vec<u8>, ApiError> {
        Ok(self.call(path, Call::Send(method, json)).await?.body)
    }

    /// Deletes an object.
    ///
    /// # Errors
    ///
    /// [`ApiError`]
    pub async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.call(path, Call::Delete).await.map(drop)
    }

    async fn call(&self, path: &str, call: Call) -> Result<Answer, ApiError> {
        let mut pauses = self.pauses.iter().copied();
        loop {
            match self.signed_in(path, &call).await {
                // A page may be that of a server that just starts.
                Err(
                    error @ (ApiError::Failing { .. }
                    | ApiError::NoAnswer(_)
                    | ApiError::NotJson(_)),
                ) => {
                    let Some(pause) = pauses.next() else { return Err(error) };
                    tracing::debug!(path, error = chain(&error), "calling the report server again");
                    sleep(jitter(pause)).await;
                }
                other => return other,
            }
        }
    }

    /// Calls with a token, and once more with a new one if the server refuses it.
    async fn signed_in(&self, path: &str, call: &Call) -> Result<Answer, ApiError> {
        let token = self.tokens.current(self).await?;
        let answer = self.send(path, call, Some(&token)).await?;
        if answer.status != 401 {
            return judged(path, call, answer);
        }
        let token = self.tokens.renewed(self, &token).await?;
        match self.send(path, call, Some(&token)).await? {
            Answer { status: 401, .. } => Err(ApiError::Token(path.to_owned())),
            answer => judged(path, call, answer),
        }
    }

    async fn send(
        &self,
        path: &str,
        call: &Call,
        token: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let url = self.url(path);
        let bearer = token.map(|token| format!("Bearer {token}"));
        let bearer = bearer.as_deref();
        match call {
            Call::Get => self.http.get(&url, bearer).await,
            Call::Delete => self.http.delete(&url, bearer).await,
            Call::Form(form) => self.http.post_form(&url, form.clone(), bearer).await,
            Call::Send(method, json) => {
                self.http.send_json(method.clone(), &url, json.clone(), bearer).await
            }
        }
    }

    /// Paths have ids of the server in them, which are encoded.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(a, b)| (a, Some(b)));
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url.set_query(query);
        url
    }
}

/// A call of the API.
enum Call {
    Get,
    Delete,
    Form(String),
    Send(Method, String),
}

/// Judges an answer by its status.
fn judged(path: &str, call: &Call, answer: Answer) -> Result<Answer, ApiError> {
    let path = path.to_owned();
    match answer.status {
        200 if matches!(call, Call::Get) && !is_json(&answer.body) => Err(ApiError::NotJson(path)),
        200..=299 => Ok(answer),
        300..=399 => Err(ApiError::Redirect(path)),
        401 => Err(ApiError::Token(path)),
        403 => Err(ApiError::Forbidden(path)),
        404 => Err(ApiError::NotFound(path)),
        status @ (408 | 409 | 429 | 500..=599) => {
            Err(ApiError::Failing { path, status, text: shown(&answer.body) })
        }
        status => Err(ApiError::Refused { path, status, text: shown(&answer.body) }),
    }
}

/// Whether a body begins as JSON does. A page for signing in begins with `<`.
fn is_json(body: &[u8]) -> bool {
    let body = fanfare_core::json::without_byte_order_mark(body).trim_ascii_start();
    body.first().is_some_and(|first| matches!(first, b'[' | b'{'))
}

/// The beginning of a body for an error, in one line.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') { String::new() } else { format!(": {text}") }
}

/// The pause that the server asks for, if it does.
fn asked_pause(answer: &Answer) -> Option<Duration> {
    let text = answer.retry_after.as_ref()?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// A pause between this one and half more, so that clients do not call at the same moment.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(fastrand::f64().mul_add(0.5, 1.0))
}
