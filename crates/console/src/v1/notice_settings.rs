//! `/api/v1/notices/settings`: the caller's own channels of notices.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::notices::settings::{self, SettingsError, Wanted};
use fanfare_app::webhooks::Verification;
use fanfare_core::mail_address::MailAddress;
use fanfare_core::notice::{Kind, OwnerChannels};
use fanfare_core::webhook::{Secret, WebhookUri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{FieldError, Problem};
use super::request::{User, members};
use crate::api::json::json;
use crate::app::{App, Shared};

/// The caller's own channels of notices, for all of the caller's webhooks.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NoticeSettings)]
pub(crate) struct Shown {
    /// The types of notices that are sent.
    types: Vec<&'static str>,
    /// The address to which they are posted; `null` for none.
    url: Option<String>,
    /// The secret that signs, in the answer to the change that generated it; else `null`.
    secret: Option<String>,
    /// The address to which they are mailed; `null` for none.
    mail: Option<String>,
    /// The domains of addresses that `mail` may have; without one, there is no mail.
    mail_domains: Vec<String>,
}

/// The channels that the caller wants. They replace the present ones.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WantedSettings {
    /// The types of notices, such as `webhook.paused`; all that are about one webhook when left out.
    types: Option<Vec<String>>,
    /// The address to which they are posted, which is verified as a webhook's; none when left out.
    url: Option<String>,
    /// The secret that signs, of 32 to 128 characters. When left out, the present one stays, or one is
    /// generated.
    secret: Option<String>,
    /// The address to which they are mailed, of a domain that the operator allows; none when left out.
    mail: Option<String>,
}

/// Show the own channels of notices.
///
/// They apply to all of the caller's own webhooks.
#[utoipa::path(
    get,
    path = "/notices/settings",
    tag = "Notices",
    responses((status = 200, description = "The channels.", body = Shown))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
) -> Result<Response, Problem> {
    let channels = settings::show(&app.context, &actor).await?;
    Ok(json(StatusCode::OK, &shown(&app, &channels, None)))
}

/// Replace the own channels of notices.
///
/// A new address must return the value of the query parameter `echo` of a GET, as a webhook's must. An
/// empty object removes all channels.
#[utoipa::path(
    put,
    path = "/notices/settings",
    tag = "Notices",
    request_body = WantedSettings,
    responses(
        (status = 200, description = "The channels as they are now.", body = Shown),
        (status = 400),
    )
)]
pub(crate) async fn change(
    State(app): State<Shared>,
    User(actor): User,
    body: Body,
) -> Result<Response, Problem> {
    let wanted = wanted(members(body).await?)?;
    let verification = Verification::Ask(&app.client);
    let changed = settings::change(&app.context, &actor, wanted, verification).await?;
    let generated = changed.generated.as_ref();
    Ok(json(StatusCode::OK, &shown(&app, &changed.channels, generated)))
}

fn wanted(sent: WantedSettings) -> Result<Wanted, Problem> {
    let WantedSettings { types, url, secret, mail } = sent;
    let mut wrong = Vec::new();
    let mut refuse = |name: &str, detail: String| {
        wrong.push(FieldError { name: name.to_owned(), detail });
    };
    let kind = |code: &String| Kind::for_owners().find(|kind| kind.code() == code);
    let kinds = types.map(|types| types.iter().map(kind).collect::<Option<Vec<_>>>());
    if kinds == Some(None) {
        let known: Vec<&str> = Kind::for_owners().map(Kind::code).collect();
        refuse("types", format!("the types are {}", known.join(", ")));
    }
    let uri = url.map(|text| text.parse::<WebhookUri>()).transpose();
    let uri = uri.map_err(|error| refuse("url", error.to_string())).unwrap_or_default();
    let secret = secret.map(|text| text.parse::<Secret>()).transpose();
    let secret = secret.map_err(|_| refuse("secret", "write 32 to 128 characters".to_owned()));
    let mail = mail.map(|text| text.parse::<MailAddress>()).transpose();
    let mail = mail.map_err(|error| refuse("mail", error.to_string())).unwrap_or_default();
    let secret = secret.unwrap_or_default();
    if !wrong.is_empty() {
        return Err(Problem::Invalid(wrong));
    }
    Ok(Wanted { kinds: kinds.flatten(), uri, secret, mail })
}

fn shown(app: &App, channels: &OwnerChannels, generated: Option<&Secret>) -> Shown {
    Shown {
        types: channels.kinds.iter().map(|kind| kind.code()).collect(),
        url: channels.webhook.as_ref().map(|webhook| webhook.uri.as_str().to_owned()),
        secret: generated.map(|secret| secret.reveal().to_owned()),
        mail: channels.mail.as_ref().map(ToString::to_string),
        mail_domains: app.context.mail_domains().as_slice().to_vec(),
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        let name = match &error {
            SettingsError::NotAUser => {
                return Self::NotFound("Only users have channels of notices.");
            }
            SettingsError::NoTypes => "types",
            SettingsError::SecretAlone | SettingsError::NotVerified(_) => "url",
            SettingsError::DomainNotAllowed { .. } | SettingsError::NoMail => "mail",
            SettingsError::Store(_) => "",
        };
        match error {
            SettingsError::Store(error) => error.into(),
            other => Self::invalid(name, other.to_string()),
        }
    }
}
