//! Webhooks, as clients of the API and imports describe them.

use chrono::DateTime;
use fanfare_core::filter::{Action, Filter, Filters};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::{Charset, Members, Registration, RegistrationError};
use fanfare_core::webhook::{Secret, Webhook, WebhookUri};
use serde_json::{Map, Value, json};

use crate::Target;
use crate::input::Input;

pub(super) const FILTERS: Target = Target {
    name: "filters",
    about: "filters of a webhook: they read back as they are shown, and match exactly the events \
            that a comparison of texts without case matches",
    check: filters,
};

pub(super) const REGISTRATION: Target = Target {
    name: "registration",
    about: "a webhook in JSON or as a form: what is accepted can be sent and stored, and reads back \
            as it is shown",
    check: registration,
};

/// The type of an event on the first line, then filters, one a line.
fn filters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (event_type, wanted) = text.split_once('\n').unwrap_or((text, ""));
    let wanted: Vec<&str> = wanted.split('\n').filter(|line| !line.is_empty()).collect();
    let filters = match Filters::parse(&wanted) {
        Ok(filters) => filters,
        Err(unknown) => {
            assert!(unknown.0.iter().all(|form| wanted.iter().any(|it| it.trim() == form)));
            assert!(!unknown.0.is_empty() && unknown.to_string().contains("not valid"));
            return;
        }
    };
    assert_eq!(Filters::parse(&filters.shown()).as_ref(), Ok(&filters));
    assert_eq!(Filters::parse(&filters.stored()).as_ref(), Ok(&filters));
    let Some((filter, action)) = event_type.split_once('.') else { return };
    let (Some(filter), Some(action)) = (Filter::parse(filter), Action::parse(action)) else {
        return;
    };
    let matches = |form: &&str| {
        let form = form.trim();
        let whole = format!("{filter}.{}", action.as_str());
        form == "*" || form.eq_ignore_ascii_case(filter.name()) || form.eq_ignore_ascii_case(&whole)
    };
    let expected = wanted.is_empty() || wanted.iter().any(matches);
    assert_eq!(filters.accept(filter, &action), expected, "{event_type} {wanted:?}");
}

/// The form of the body on the first line, `json`, `utf-16` or `form`; then the body.
fn registration(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let form = input.text().unwrap_or_default();
    let body = input.rest();
    let members = match form {
        "form" => Ok(Members::parse_form(body)),
        "utf-16" => Members::parse_in(body, Charset::Utf16),
        _ => Members::parse(body),
    };
    let parsed = members.map_err(RegistrationError::from).and_then(|it| Registration::parse(&it));
    match parsed {
        Ok(registration) => check(registration),
        Err(error) => {
            // Values may be repeated, in a few words: the answer is about as long as the request.
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() <= 4 * body.len() + 1024, "{text}");
            if let RegistrationError::Malformed(malformed) = error {
                let state = malformed.model_state();
                assert!(!state.is_empty() && state.keys().all(|key| key.starts_with("webHook")));
            }
        }
    }
}

fn check(registration: Registration) {
    let owner = Name::parse("anna").unwrap_or_else(|| panic!("a name"));
    let generated: Secret = "g".repeat(32).parse().unwrap_or_else(|error| panic!("{error}"));
    let id = WebhookId(uuid::Uuid::from_u128(1));
    let webhook =
        registration.into_webhook(id, owner.clone(), generated.clone(), DateTime::UNIX_EPOCH);
    check_sendable(&webhook);
    let shown = shown(&webhook);
    let members = Members::parse(shown.to_string().as_bytes());
    let again = members.map_err(RegistrationError::from).and_then(|it| Registration::parse(&it));
    let again = again.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let again = again.into_webhook(id, owner, generated, DateTime::UNIX_EPOCH);
    assert_eq!(format!("{again:?}"), format!("{webhook:?}"));
    assert!(again.secrets == webhook.secrets && again.headers == webhook.headers);
}

/// Everything that is accepted can be a part of a request, and be stored as text.
fn check_sendable(webhook: &Webhook) {
    let uri: Result<WebhookUri, _> = webhook.uri.as_str().parse();
    assert_eq!(uri.as_ref(), Ok(&webhook.uri));
    assert!(!webhook.uri.as_str().chars().any(char::is_control));
    assert!(!webhook.description.as_deref().unwrap_or_default().contains('\0'));
    let headers = webhook.headers.as_slice();
    assert!(headers.len() <= 50);
    for (name, value) in headers {
        assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "{name:?}");
        assert!(http::HeaderValue::from_bytes(value.as_bytes()).is_ok(), "{value:?}");
    }
    let properties = webhook.properties.to_json();
    assert!(serde_json::from_str::<Map<String, Value>>(&properties).is_ok(), "{properties}");
    assert!(webhook.secrets.iter().all(|it| it.is(it.reveal())));
    // Neither is in what is printed for debugging. A header's name is, and may be the same text.
    let printed = format!("{:?} {:?}", webhook.secrets, webhook.headers);
    let is_name = |secret: &Secret| headers.iter().any(|(name, _)| name.contains(secret.reveal()));
    let is_hidden = |secret: &Secret| is_name(secret) || !printed.contains(secret.reveal());
    assert!(webhook.secrets.iter().all(is_hidden), "{printed}");
}

/// The webhook as the API shows it.
fn shown(webhook: &Webhook) -> Value {
    let headers: Map<String, Value> =
        webhook.headers.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "WebHookUri": webhook.uri.as_str(),
        "Secret": webhook.secrets.first().map(Secret::reveal),
        "Description": webhook.description,
        "IsPaused": webhook.paused,
        "Filters": webhook.filters.shown(),
        "Headers": headers,
        "Properties": webhook.properties.as_map(),
    })
}
