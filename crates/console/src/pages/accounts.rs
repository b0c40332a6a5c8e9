//! Local accounts, for administrators: the list, and accounts that are disabled or enabled. Passwords and
//! roles are set at the command line alone.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::accounts::{self, AccountError};
use fanfare_core::name::Name;
use fanfare_store::accounts::Account;

use super::ACCOUNTS;
use super::components::{FormToken, Moment};
use super::deliveries::query;
use super::error::PageError;
use super::fields;
use super::page::{Frame, page, see_other};
use super::visitor::{Posted, Visitor};
use crate::app::Shared;

/// The reason of an account that is disabled without one.
const BY_AN_ADMINISTRATOR: &str = "disabled by an administrator";
/// The most characters of a reason.
const REASON: usize = 200;

#[derive(Template)]
#[template(path = "accounts.html")]
struct Accounts {
    frame: Frame,
    token: FormToken,
    rows: Vec<Row>,
    done: Option<&'static str>,
    problem: Option<&'static str>,
}

/// An account as it is shown.
struct Row {
    name: String,
    administrator: bool,
    is_own: bool,
    created_at: Moment,
    sessions: i64,
    disabled: Option<(Moment, String)>,
}

/// `GET`: lists the accounts.
pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let actor = visitor.actor();
    let accounts = accounts::list(&app.store, &actor).await?;
    let row = |account: Account| Row {
        is_own: Name::parse(&account.name).is_some_and(|name| actor.is(&name)),
        name: account.name,
        administrator: account.administrator,
        created_at: Moment(account.created_at),
        sessions: account.sessions,
        disabled: account.disabled.map(|(at, why)| (Moment(at), why.unwrap_or_default())),
    };
    let shown = Accounts {
        frame: visitor.frame().of_accounts(),
        token: visitor.form_token(),
        rows: accounts.into_iter().map(row).collect(),
        done: match query.text("done") {
            "disabled" => Some("The account was disabled, and its sessions have ended."),
            "enabled" => Some("The account was enabled."),
            _ => None,
        },
        problem: match query.text("problem") {
            "own" => Some("You can’t disable your own account."),
            "unknown" => Some("There is no such account any more."),
            _ => None,
        },
    };
    Ok(page(StatusCode::OK, &shown))
}

/// `POST`: disables an account.
pub(crate) async fn disable(
    State(app): State<Shared>,
    posted: Posted,
) -> Result<Response, PageError> {
    let reason: String =
        posted.fields.text("reason").replace('\0', "").chars().take(REASON).collect();
    let reason = if reason.is_empty() { BY_AN_ADMINISTRATOR } else { reason.as_str() };
    let actor = posted.visitor.actor();
    let changed = match Name::parse(posted.fields.raw("name")) {
        Some(name) => accounts::disable(&app.store, &actor, &name, reason).await,
        None => Err(AccountError::Unknown),
    };
    answer(changed, "disabled")
}

/// `POST`: enables an account.
pub(crate) async fn enable(
    State(app): State<Shared>,
    posted: Posted,
) -> Result<Response, PageError> {
    let actor = posted.visitor.actor();
    let changed = match Name::parse(posted.fields.raw("name")) {
        Some(name) => accounts::enable(&app.store, &actor, &name).await,
        None => Err(AccountError::Unknown),
    };
    answer(changed, "enabled")
}

fn answer(changed: Result<(), AccountError>, done: &str) -> Result<Response, PageError> {
    let said = match changed {
        Ok(()) => ("done", done),
        Err(AccountError::Own) => ("problem", "own"),
        Err(AccountError::Unknown) => ("problem", "unknown"),
        Err(error) => return Err(error.into()),
    };
    Ok(see_other(&fields::path(ACCOUNTS, &[said])))
}

impl From<AccountError> for PageError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            AccountError::NotAdministrator(_) | AccountError::Unknown | AccountError::Own => {
                Self::Unknown
            }
        }
    }
}
