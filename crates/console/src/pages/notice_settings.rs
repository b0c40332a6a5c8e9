//! A user's own channels of notices: the form, and what it changes. They apply to all of the user's
//! webhooks.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::notices::settings::{self, SettingsError, Wanted};
use fanfare_app::webhooks::Verification;
use fanfare_core::notice::{Kind, OwnerChannels};
use fanfare_core::signature::library_secret;
use fanfare_core::webhook::Secret;

use super::components::FormToken;
use super::deliveries::query;
use super::error::PageError;
use super::fields::Fields;
use super::page::{Frame, page, see_other};
use super::visitor::{Posted, Visitor};
use super::{NOTICE_SETTINGS, text};
use crate::app::{App, Shared};

#[derive(Template)]
#[template(path = "notice_settings.html")]
struct Page {
    frame: Frame,
    token: FormToken,
    form: Form,
    errors: Errors,
    /// The domains of addresses for mail; empty: there is no mail.
    domains: String,
    saved: bool,
    /// A secret that was generated, and its form for libraries.
    generated: Option<(String, String)>,
}

/// The fields as the page shows them.
#[derive(Default)]
struct Form {
    kinds: Vec<Choice>,
    url: String,
    mail: String,
}

/// A type of notices that can be chosen.
struct Choice {
    code: &'static str,
    label: &'static str,
    chosen: bool,
}

/// The errors of the fields.
#[derive(Default)]
struct Errors {
    types: Option<String>,
    url: Option<String>,
    secret: Option<String>,
    mail: Option<String>,
}

impl Errors {
    fn any(&self) -> bool {
        [&self.types, &self.url, &self.secret, &self.mail].into_iter().any(Option::is_some)
    }
}

impl Form {
    fn of(channels: &OwnerChannels) -> Self {
        // A user without channels begins with all types.
        let chosen = |kind: Kind| channels.is_empty() || channels.kinds.contains(&kind);
        let webhook = channels.webhook.as_ref();
        Self {
            kinds: choices(chosen),
            url: webhook.map(|webhook| webhook.uri.as_str().to_owned()).unwrap_or_default(),
            mail: channels.mail.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn read(fields: &Fields) -> Self {
        let chosen: Vec<&str> = fields.all("type").collect();
        Self {
            kinds: choices(|kind| chosen.contains(&kind.code())),
            url: fields.text("url").to_owned(),
            mail: fields.text("mail").to_owned(),
        }
    }

    /// Validates the form with the secret, which is never shown.
    fn check(&self, secret: &str) -> Result<Wanted, Errors> {
        let mut errors = Errors::default();
        let wanted = Wanted {
            kinds: Some(self.chosen()),
            uri: parsed(&self.url, &mut errors.url),
            secret: parsed(secret, &mut errors.secret),
            mail: parsed(&self.mail, &mut errors.mail),
        };
        if errors.any() { Err(errors) } else { Ok(wanted) }
    }

    fn chosen(&self) -> Vec<Kind> {
        let is_chosen = |kind: &Kind| {
            self.kinds.iter().any(|choice| choice.chosen && choice.code == kind.code())
        };
        Kind::for_owners().filter(is_chosen).collect()
    }
}

fn choices(chosen: impl Fn(Kind) -> bool) -> Vec<Choice> {
    let choice =
        |kind: Kind| Choice { code: kind.code(), label: text::notice(kind), chosen: chosen(kind) };
    Kind::for_owners().map(choice).collect()
}

/// Reads a field that may be empty.
fn parsed<T>(text: &str, error: &mut Option<String>) -> Option<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let parse =
        |text: &str| text.parse().map_err(|why: T::Err| *error = Some(why.to_string())).ok();
    Some(text).filter(|text| !text.is_empty()).and_then(parse)
}

/// `GET`: shows the form.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let channels = settings::show(&app.context, &visitor.actor()).await?;
    let shown = Page {
        saved: query(&uri).text("done") == "saved",
        ..blank(&app, &visitor, Form::of(&channels))
    };
    Ok(page(StatusCode::OK, &shown))
}

/// `POST`: changes the channels. A secret that this generates is shown at once, and not again.
pub(crate) async fn save(State(app): State<Shared>, posted: Posted) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let form = Form::read(&fields);
    let errors = match form.check(fields.text("secret")) {
        Err(errors) => errors,
        Ok(wanted) => {
            let verification = Verification::Ask(&app.client);
            match settings::change(&app.context, &visitor.actor(), wanted, verification).await {
                Ok(changed) => return Ok(saved(&app, &visitor, &changed)),
                Err(error) => refused(error)?,
            }
        }
    };
    let shown = Page { errors, ..blank(&app, &visitor, form) };
    Ok(page(StatusCode::BAD_REQUEST, &shown))
}

fn saved(app: &App, visitor: &Visitor, changed: &settings::Changed) -> Response {
    let Some(secret) = &changed.generated else {
        return see_other(&format!("{NOTICE_SETTINGS}?done=saved"));
    };
    let generated = |secret: &Secret| (secret.reveal().to_owned(), library_secret(secret));
    let shown = Page {
        saved: true,
        generated: Some(generated(secret)),
        ..blank(app, visitor, Form::of(&changed.channels))
    };
    page(StatusCode::OK, &shown)
}

fn blank(app: &App, visitor: &Visitor, form: Form) -> Page {
    Page {
        frame: visitor.frame().of_notices(),
        token: visitor.form_token(),
        form,
        errors: Errors::default(),
        domains: app.context.mail_domains().as_slice().join(", "),
        saved: false,
        generated: None,
    }
}

/// Turns a refusal into an error of its field.
fn refused(error: SettingsError) -> Result<Errors, PageError> {
    let text = Some(text::sentence(&error.to_string()));
    let none = Errors::default();
    match error {
        SettingsError::NoTypes => Ok(Errors { types: text, ..none }),
        SettingsError::SecretAlone | SettingsError::NotVerified(_) => {
            Ok(Errors { url: text, ..none })
        }
        SettingsError::DomainNotAllowed { .. } | SettingsError::NoMail => {
            Ok(Errors { mail: text, ..none })
        }
        SettingsError::NotAUser | SettingsError::Store(_) => Err(error.into()),
    }
}

impl From<SettingsError> for PageError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Store(error) => error.into(),
            _ => Self::Unknown,
        }
    }
}
