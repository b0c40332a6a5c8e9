//! The pages with a webhook's form: create a webhook, and change it.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::webhooks::{self, NewWebhook, Verification, WebhookError};
use fanfare_core::registration::RegistrationError;

use super::WEBHOOKS;
use super::components::FormToken;
use super::error::PageError;
use super::form::{Errors, Form, Property};
use super::page::{Frame, page, see_other};
use super::visitor::{Id, Posted, Visitor};
use crate::app::Shared;

#[derive(Template)]
#[template(path = "edit.html")]
struct Edit {
    frame: Frame,
    token: FormToken,
    /// The path to which the form is sent, and the path of the page to return to.
    action: String,
    back: String,
    new: bool,
    form: Form,
    errors: Errors,
    wrong: usize,
}

/// `GET`: shows the form of a new webhook.
pub(crate) async fn new(visitor: Visitor) -> Response {
    form(&visitor, &FormTarget::New, StatusCode::OK, Form::empty(), Errors::default())
}

/// `POST`: registers a webhook.
pub(crate) async fn create(
    State(app): State<Shared>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let sent = Form::read(&fields);
    if let Some(more) = more(&fields, sent.clone()) {
        return Ok(form(&visitor, &FormTarget::New, StatusCode::OK, more, Errors::default()));
    }
    let refused = match sent.check() {
        Ok(wanted) => {
            let verification = Verification::Ask(&app.client);
            let new = NewWebhook { owner: visitor.caller.name.clone(), wanted, verification };
            match webhooks::register(&app.context, &visitor.actor(), new).await {
                Ok(made) => return Ok(see_other(&format!("{WEBHOOKS}/{}?done=created", made.id))),
                Err(error) => errors(error)?,
            }
        }
        Err(errors) => *errors,
    };
    Ok(form(&visitor, &FormTarget::New, StatusCode::BAD_REQUEST, sent, refused))
}

/// `GET`: shows the form of an existing webhook.
pub(crate) async fn edit(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let target = FormTarget::Existing(format!("{WEBHOOKS}/{id}"));
    let mut shown = Form::of(&webhook);
    if !visitor.owns(&webhook) {
        shown.mask_headers();
    }
    Ok(form(&visitor, &target, StatusCode::OK, shown, Errors::default()))
}

/// `POST`: changes a webhook.
pub(crate) async fn save(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    visitor.webhook(&app, id).await?;
    let target = FormTarget::Existing(format!("{WEBHOOKS}/{id}"));
    let sent = Form::read(&fields);
    if let Some(more) = more(&fields, sent.clone()) {
        return Ok(form(&visitor, &target, StatusCode::OK, more, Errors::default()));
    }
    let refused = match sent.check() {
        Ok(wanted) => {
            let (actor, verification) = (visitor.actor(), Verification::Ask(&app.client));
            match webhooks::replace(&app.context, &actor, id, wanted, verification).await {
                Ok(()) => return Ok(see_other(&format!("{WEBHOOKS}/{id}?done=saved"))),
                Err(WebhookError::Invalid(RegistrationError::FormerOwner)) => {
                    return Ok(see_other(&format!("{WEBHOOKS}/{id}?problem=former-owner")));
                }
                Err(error) => errors(error)?,
            }
        }
        Err(errors) => *errors,
    };
    Ok(form(&visitor, &target, StatusCode::BAD_REQUEST, sent, refused))
}

/// The webhook that a form is for: a new one, or an existing one with its path.
enum FormTarget {
    New,
    Existing(String),
}

fn form(
    visitor: &Visitor,
    target: &FormTarget,
    status: StatusCode,
    mut form: Form,
    errors: Errors,
) -> Response {
    // Add an empty row, so that a person can fill it in at once.
    if form.headers.is_empty() {
        form.headers.push(Default::default());
    }
    if form.properties.is_empty() {
        form.properties.push(Property::default());
    }
    let (action, back, new) = match target {
        FormTarget::New => (WEBHOOKS.to_owned(), WEBHOOKS.to_owned(), true),
        FormTarget::Existing(path) => (format!("{path}/edit"), path.clone(), false),
    };
    let (frame, token, wrong) = (visitor.frame(), visitor.form_token(), errors.count());
    page(status, &Edit { frame, token, action, back, new, form, errors, wrong })
}

/// Adds a row to the form, if a button for that was pressed in a browser without scripts.
fn more(fields: &super::fields::Fields, mut form: Form) -> Option<Form> {
    match fields.text("more") {
        "header" => form.headers.push(Default::default()),
        "property" => form.properties.push(Property::default()),
        _ => return None,
    }
    Some(form)
}

/// Turns the refusal of a valid form into an error of the address field.
fn errors(error: WebhookError) -> Result<Errors, PageError> {
    match error {
        error @ (WebhookError::NotVerified(_) | WebhookError::TooMany { .. }) => {
            Ok(Errors { url: Some(error.to_string()), ..Errors::default() })
        }
        other => Err(other.into()),
    }
}
