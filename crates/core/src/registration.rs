//! A client's request to register or change a webhook, parsed as the report server's own API does.
//!
//! `members` parses a body: JSON with the extensions that Json.NET accepts (`relaxed`), or a form
//! (`form`). A body that can't be parsed is [`Malformed`], which lists every wrong member. A body
//! with an invalid value is a [`RegistrationError`], whose text the user sees.

mod form;
mod members;
mod relaxed;

pub use members::{Charset, Malformed, Members};

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::filter::{Filters, UnknownFilters};
use crate::ids::WebhookId;
use crate::name::Name;
use crate::rate_limit::RateLimit;
use crate::webhook::{
    BadHeader, BadProperty, BadSecret, BadUri, Headers, Pacing, Properties, Secret, Webhook,
    WebhookUri,
};

/// The webhook that a client requests. The fields mean the same as those of [`Webhook`].
#[derive(Debug, Clone)]
pub struct Registration {
    pub uri: WebhookUri,
    /// The secret; `None` keeps the present one, or generates one for a new webhook.
    pub secret: Option<Secret>,
    pub description: Option<String>,
    pub paused: bool,
    pub filters: Filters,
    pub headers: Headers,
    pub properties: Properties,
    /// The change of the limit on attempts a minute.
    pub rate_limit: RateLimit,
}

/// Why a webhook can't be registered or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The body can't be parsed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The URI is not valid.
    #[error(transparent)]
    Uri(#[from] BadUri),
    /// The secret is too short or too long.
    #[error(transparent)]
    Secret(#[from] BadSecret),
    /// Some filters don't exist.
    #[error(transparent)]
    Filters(#[from] UnknownFilters),
    /// A header would break the request or its signature.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A property is not a scalar.
    #[error(transparent)]
    Property(#[from] BadProperty),
    /// The description can't be stored.
    #[error("The description is not valid: it holds the character U+0000.")]
    Description,
    /// The webhook belonged to a former user of the same name, and the caller is not an
    /// administrator.
    #[error(
        "The WebHook belonged to a former user of the same name, so only a System Administrator may \
         resume it."
    )]
    FormerOwner,
}

impl Registration {
    /// Parses a request. The checks have the order of the report server's own ones: the members,
    /// then the secret, the filters and the URI.
    pub fn parse(members: &Members) -> Result<Self, RegistrationError> {
        let read = Read::parse(members)?;
        let secret = read.secret.filter(|text| !text.is_empty());
        let secret = secret.map(|text| text.parse()).transpose()?;
        let filters = Filters::parse(&read.filters)?;
        let uri = read.uri.parse()?;
        let headers = Headers::parse(read.headers)?;
        let properties = Properties::parse(read.properties)?;
        if read.description.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(RegistrationError::Description);
        }
        let description = read.description.map(Cow::into_owned);
        let (paused, rate_limit) = (read.paused, RateLimit::Kept);
        Ok(Self { uri, secret, description, paused, filters, headers, properties, rate_limit })
    }

    /// The new webhook. `generated` is its secret if the request has none.
    #[must_use]
    pub fn into_webhook(
        self,
        id: WebhookId,
        owner: Name,
        generated: Secret,
        created_at: DateTime<Utc>,
    ) -> Webhook {
        Webhook {
            id,
            owner,
            uri: self.uri,
            secrets: vec![self.secret.unwrap_or(generated)],
            description: self.description,
            paused: self.paused,
            paused_reason: None,
            filters: self.filters,
            headers: self.headers,
            properties: self.properties,
            created_at,
            failing_since: None,
            rate_limit: self.rate_limit.over(None),
            pacing: Pacing::default(),
            hold: false,
            held_since: None,
        }
    }

    /// The webhook after this change. Its secrets stay if the request has none, or the newest of
    /// them. The reason of a pause by the service stays as long as the webhook is paused.
    #[must_use]
    pub fn applied_to(self, webhook: Webhook) -> Webhook {
        let Webhook { hold, held_since, .. } = webhook;
        let Webhook { id, owner, secrets, created_at, failing_since, rate_limit, pacing, .. } =
            webhook;
        let secrets = match self.secret {
            Some(secret) if secrets.first() != Some(&secret) => vec![secret],
            _ => secrets,
        };
        Webhook {
            id,
            owner,
            uri: self.uri,
            secrets,
            description: self.description,
            paused: self.paused,
            paused_reason: webhook.paused_reason.filter(|_| self.paused),
            filters: self.filters,
            headers: self.headers,
            properties: self.properties,
            created_at,
            failing_since,
            rate_limit: self.rate_limit.over(rate_limit),
            pacing,
            hold,
            held_since,
        }
    }
}

/// The members of a request with their types.
struct Read<'a> {
    uri: Cow<'a, str>,
    secret: Option<Cow<'a, str>>,
    description: Option<Cow<'a, str>>,
    paused: bool,
    filters: Vec<String>,
    headers: Vec<(String, String)>,
    properties: Map<String, Value>,
}

impl<'a> Read<'a> {
    fn parse(members: &'a Members) -> Result<Self, Malformed> {
        let uri = members.text("WebHookUri").and_then(|uri| {
            uri.ok_or_else(|| Malformed::of("WebHookUri", "The WebHookUri field is required."))
        });
        let secret = members.text("Secret");
        let description = members.text("Description");
        let paused = members.flag("IsPaused");
        let filters = members.texts("Filters");
        let headers = members.headers("Headers");
        let properties = members.values("Properties");
        match (uri, secret, description, paused, filters, headers, properties) {
            (
                Ok(uri),
                Ok(secret),
                Ok(description),
                Ok(paused),
                Ok(filters),
                Ok(headers),
                Ok(properties),
            ) => Ok(Self { uri, secret, description, paused, filters, headers, properties }),
            (uri, secret, description, paused, filters, headers, properties) => {
                let wrong = [
                    uri.err(),
                    secret.err(),
                    description.err(),
                    paused.err(),
                    filters.err(),
                    headers.err(),
                    properties.err(),
                ];
                Err(Malformed::all(wrong.into_iter().flatten()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::PauseReason;
    use serde_json::json;
    use uuid::Uuid;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    fn read(json: &str) -> Result<Registration, RegistrationError> {
        Registration::parse(&Members::parse(json.as_bytes())?)
    }

    fn webhook() -> Webhook {
        let registration = read(r#"{"WebHookUri":"http://x/"}"#).unwrap();
        let owner = Name::parse("anna").unwrap();
        let id = WebhookId(Uuid::from_u128(7));
        registration.into_webhook(id, owner, OLD.parse().unwrap(), DateTime::UNIX_EPOCH)
    }

    #[track_caller]
    fn check_malformed(json: &str, expected: &[&str]) {
        match read(json) {
            Err(RegistrationError::Malformed(malformed)) => {
                let state = malformed.model_state();
                assert_eq!(state.keys().collect::<Vec<_>>(), expected, "{json}");
                for problems in state.values() {
                    assert!(problems[0].as_str().is_some_and(|text| text.ends_with('.')));
                }
            }
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn members_are_matched_without_case_and_the_last_duplicate_counts() {
        let registration = read(
            r#"{"webhookuri":"http://a/","Unknown":[{}],"ISPAUSED":true,"WEBHOOKURI":"http://b/",
                "WebHookUri":"http://c/","webHookUri":"http://d/","description":null}"#,
        )
        .unwrap();
        assert_eq!(registration.uri.as_str(), "http://d/");
        assert!(registration.paused);
        assert_eq!(registration.description, None);
        let twice =
            r#"{"Secret":"x","WebHookUri":"http://a/","secret":"","WebHookUri":"http://b/"}"#;
        let registration = read(twice).unwrap();
        assert_eq!((registration.uri.as_str(), registration.secret), ("http://b/", None));
    }

    #[test]
    fn a_malformed_body_is_refused_with_every_wrong_member() {
        for json in ["", " \n", "nonsense", "[]", "null", "5", "{", "{}x", "\"\u{0}\""] {
            check_malformed(json, &["webHook"]);
        }
        check_malformed("{}", &["webHook.WebHookUri"]);
        check_malformed(r#"{"WebHookUri":null}"#, &["webHook.WebHookUri"]);
        check_malformed(
            r#"{"WebHookUri":"http://x/","Filters":["reports",null],"Headers":{"A":[]}}"#,
            &["webHook.Filters[1]", "webHook.Headers.A"],
        );
        check_malformed(
            r#"{"WebHookUri":[],"Secret":{},"Description":{},"IsPaused":"yes","Filters":"reports",
                "Headers":[],"Properties":"x"}"#,
            &[
                "webHook.WebHookUri",
                "webHook.Secret",
                "webHook.Description",
                "webHook.IsPaused",
                "webHook.Filters",
                "webHook.Headers",
                "webHook.Properties",
            ],
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(read("\u{feff}{\"WebHookUri\":\"http://x/\"}").is_ok());
    }

    #[test]
    fn invalid_values_are_refused_in_the_order_of_the_report_server() {
        let mut wanted = json!({
            "Secret": "short", "Filters": ["galaxies"], "WebHookUri": "ftp://x/",
            "Headers": { "Host": "x" }, "Properties": { "A": [] }, "Description": "a\0b"
        });
        let corrections = [
            ("Secret", json!(OLD), "between 32 and 128"),
            ("Filters", json!(["Tasks"]), "filters are not valid: 'galaxies'"),
            ("WebHookUri", json!("http://x/"), "but received 'ftp://x/'"),
            ("Headers", json!({}), "'Host'"),
            ("Properties", json!({}), "'A'"),
            ("Description", json!("a\nb"), "U+0000"),
        ];
        for (member, good, words) in corrections {
            let error = read(&wanted.to_string()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            wanted[member] = good;
        }
        assert!(read(&wanted.to_string()).is_ok());
    }

    #[test]
    fn scalars_are_coerced_as_in_json_net() {
        let registration = read(
            r#"{"WebHookUri":"http://x/","Secret":12345678901234567890123456789012,"Description":1.50,
                "IsPaused":"True","Filters":["TASKS","reports","Tasks"],"Headers":{"X-A":1,"X-B":true},
                "Properties":{"n":1.5,"t":"1","b":false}}"#,
        )
        .unwrap();
        let secret = registration.secret.as_ref().map(Secret::reveal);
        assert_eq!(secret, Some("12345678901234567890123456789012"));
        assert_eq!(registration.description.as_deref(), Some("1.50"));
        assert!(registration.paused);
        assert_eq!(registration.filters.shown(), ["tasks", "reports"]);
        let headers: Vec<_> = registration.headers.iter().collect();
        assert_eq!(headers, [("X-A", "1"), ("X-B", "true")]);
        assert_eq!(registration.properties.to_json(), r#"{"n":1.5,"t":"1","b":false}"#);
        let error = read(r#"{"WebHookUri":5}"#).unwrap_err().to_string();
        assert!(error.ends_with("but received '5'."), "{error}");
        let error = read(r#"{"WebHookUri":"http://x/","Filters":["reports",1]}"#).unwrap_err();
        assert_eq!(error.to_string(), "The following filters are not valid: '1'.");
    }

    #[test]
    fn a_form_gives_the_same_registration_as_json() {
        let form = "WebHookUri=http%3A%2F%2Fx%2F&Secret=&IsPaused=1&Filters=tasks&Filters=reports\
                    &Headers[X-A]=1&Properties[a]=2";
        let registration = Registration::parse(&Members::parse_form(form.as_bytes())).unwrap();
        assert_eq!((registration.uri.as_str(), registration.secret), ("http://x/", None));
        assert!(registration.paused);
        assert_eq!(registration.filters.shown(), ["tasks", "reports"]);
        assert_eq!(registration.headers.iter().collect::<Vec<_>>(), [("X-A", "1")]);
        assert_eq!(registration.properties.to_json(), r#"{"a":"2"}"#);
        let wrong = Registration::parse(&Members::parse_form(b"IsPaused=maybe&Headers=x"));
        let Err(RegistrationError::Malformed(wrong)) = wrong else { panic!("{wrong:?}") };
        let state = wrong.model_state();
        let members = ["webHook.WebHookUri", "webHook.IsPaused", "webHook.Headers"];
        assert_eq!(state.keys().collect::<Vec<_>>(), members);
    }

    #[test]
    fn an_empty_uri_is_quoted_in_its_refusal() {
        let error = read(r#"{"WebHookUri":""}"#).unwrap_err().to_string();
        assert!(error.ends_with("but received ''."), "{error}");
    }

    #[test]
    fn a_change_keeps_the_secret_unless_it_has_a_new_one() {
        for (secret, kept) in [("", OLD), (OLD, OLD), (NEW, NEW)] {
            let wanted = json!({ "WebHookUri": "http://y/", "Secret": secret });
            let changed = read(&wanted.to_string()).unwrap().applied_to(webhook());
            assert_eq!(changed.secrets, [kept.parse().unwrap()]);
            assert_eq!((changed.id, changed.uri.as_str()), (webhook().id, "http://y/"));
        }
    }

    #[test]
    fn a_change_keeps_the_pause_reason_while_the_webhook_is_paused() {
        for (paused, reason) in [(true, Some(PauseReason::Gone)), (false, None)] {
            let wanted = json!({ "WebHookUri": "http://x/", "IsPaused": paused });
            let mut before = webhook();
            before.paused = true;
            before.paused_reason = Some(PauseReason::Gone);
            let changed = read(&wanted.to_string()).unwrap().applied_to(before);
            assert_eq!((changed.paused, changed.paused_reason), (paused, reason));
        }
    }
}
