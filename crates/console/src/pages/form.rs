//! A webhook's form: its fields and their errors.
//!
//! The fields are validated by the same types as in the API, so both give the same messages. A form
//! reports the errors of all fields together.

use fanfare_core::filter::{Filter, Filters};
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::registration::{Registration, RegistrationError};
use fanfare_core::webhook::{Headers, Properties, Webhook};
use serde_json::{Map, Value};

use super::fields::Fields;

/// The fields as the page shows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Form {
    pub(super) url: String,
    pub(super) description: String,
    pub(super) paused: bool,
    pub(super) everything: bool,
    pub(super) kinds: Vec<Kind>,
    /// Filters with an action, such as `reports.delete`.
    pub(super) actions: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) properties: Vec<Property>,
    /// Requests a minute; empty for no limit.
    pub(super) rate_limit: String,
    /// A secret that the user chose. It is never shown.
    secret: String,
}

/// A filter that can be chosen.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) chosen: bool,
}

/// A property as the user typed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Property {
    pub(super) name: String,
    /// Whether the value is JSON: a number, `true`, `false` or `null`. Otherwise it is a text.
    pub(super) json: bool,
    pub(super) value: String,
}

/// The errors of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) url: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) description: Option<String>,
    pub(super) filters: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) properties: Option<String>,
    pub(super) rate_limit: Option<String>,
}

impl Errors {
    /// The number of fields with errors.
    pub(super) fn count(&self) -> usize {
        let all = [
            &self.url,
            &self.secret,
            &self.description,
            &self.filters,
            &self.headers,
            &self.properties,
            &self.rate_limit,
        ];
        all.into_iter().flatten().count()
    }
}

impl Form {
    /// The form of a new webhook.
    pub(super) fn empty() -> Self {
        Self { everything: true, kinds: kinds(|_| false), ..Self::default() }
    }

    /// The form of an existing webhook.
    pub(super) fn of(webhook: &Webhook) -> Self {
        let forms = webhook.filters.shown();
        let actions: Vec<&str> = forms.iter().copied().filter(|it| it.contains('.')).collect();
        let property = |(name, value): (&String, &Value)| Property {
            name: name.clone(),
            json: !value.is_string(),
            value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        Self {
            url: webhook.uri.as_str().to_owned(),
            description: webhook.description.clone().unwrap_or_default(),
            paused: webhook.paused,
            everything: webhook.filters.is_everything(),
            kinds: kinds(|name| forms.contains(&name)),
            actions: actions.join(", "),
            headers: webhook.headers.as_slice().to_vec(),
            properties: webhook.properties.as_map().iter().map(property).collect(),
            rate_limit: webhook.rate_limit.map(|limit| limit.to_string()).unwrap_or_default(),
            secret: String::new(),
        }
    }

    /// Replaces the values of headers by placeholders.
    pub(super) fn mask_headers(&mut self) {
        for (_, value) in &mut self.headers {
            Headers::MASK.clone_into(value);
        }
    }

    /// Reads the form. Rows without a name and a value are left out.
    pub(super) fn read(fields: &Fields) -> Self {
        let chosen: Vec<&str> = fields.all("filter").collect();
        let headers = fields.all("header-name").zip(fields.all("header-value"));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.to_owned()));
        let kinds_of = fields.all("property-kind").zip(fields.all("property-value"));
        let property = |(name, (kind, value)): (&str, (&str, &str))| Property {
            name: name.trim().to_owned(),
            json: kind == "json",
            value: value.to_owned(),
        };
        let properties = fields.all("property-name").zip(kinds_of).map(property);
        Self {
            url: fields.text("url").to_owned(),
            description: fields.text("description").to_owned(),
            paused: fields.has("paused"),
            everything: chosen.contains(&"*"),
            kinds: kinds(|name| chosen.contains(&name)),
            actions: fields.text("actions").to_owned(),
            headers: headers
                .filter(|(name, value)| !name.is_empty() || !value.is_empty())
                .collect(),
            properties: properties
                .filter(|it| !it.name.is_empty() || !it.value.is_empty())
                .collect(),
            rate_limit: fields.text("rate-limit").to_owned(),
            secret: fields.text("secret").to_owned(),
        }
    }

    /// Validates the form and returns the registration that it describes.
    pub(super) fn check(&self) -> Result<Registration, Box<Errors>> {
        let mut errors = Errors::default();
        let uri = match self.url.as_str() {
            "" => Err("Enter the address that notifications are sent to.".to_owned()),
            url => url.parse().map_err(message),
        };
        let uri = keep(uri, &mut errors.url);
        let secret = match self.secret.as_str() {
            "" => None,
            secret => keep(secret.parse().map_err(message), &mut errors.secret),
        };
        let filters = keep(self.filters(), &mut errors.filters);
        let headers = Headers::parse(self.headers.iter().cloned()).map_err(message);
        let headers = keep(headers, &mut errors.headers);
        let properties = keep(self.properties(), &mut errors.properties);
        let rate_limit = RateLimit::parse(&self.rate_limit).map_err(message);
        let rate_limit = keep(rate_limit, &mut errors.rate_limit).unwrap_or(RateLimit::Kept);
        if self.description.contains('\0') {
            errors.description = Some(RegistrationError::Description.to_string());
        }
        match (uri, filters, headers, properties) {
            (Some(uri), Some(filters), Some(headers), Some(properties)) if errors.count() == 0 => {
                let description = Some(self.description.clone()).filter(|it| !it.is_empty());
                let paused = self.paused;
                Ok(Registration {
                    uri,
                    secret,
                    description,
                    paused,
                    filters,
                    headers,
                    properties,
                    rate_limit,
                })
            }
            _ => Err(Box::new(errors)),
        }
    }

    fn filters(&self) -> Result<Filters, String> {
        if self.everything {
            return Ok(Filters::default());
        }
        let kinds = self.kinds.iter().filter(|kind| kind.chosen).map(|kind| kind.name);
        let actions = self.actions.split([',', ' ', '\n', ';']).map(str::trim);
        let wanted: Vec<&str> = kinds.chain(actions.filter(|it| !it.is_empty())).collect();
        if wanted.is_empty() {
            return Err("Choose at least one kind of event, or everything.".to_owned());
        }
        Filters::parse(&wanted).map_err(message)
    }

    fn properties(&self) -> Result<Properties, String> {
        let mut map = Map::new();
        for Property { name, json, value } in &self.properties {
            if name.is_empty() {
                return Err(format!("The property with the value '{value}' has no name."));
            }
            let value = if *json {
                serde_json::from_str(value.trim()).map_err(|_| {
                    format!(
                        "The value of the property '{name}' must be a number, true, false or null; \
                         for anything else choose Text."
                    )
                })?
            } else {
                Value::from(value.as_str())
            };
            if map.insert(name.clone(), value).is_some() {
                return Err(format!("The property '{name}' appears more than once."));
            }
        }
        Properties::parse(map).map_err(message)
    }
}

fn kinds(chosen: impl Fn(&str) -> bool) -> Vec<Kind> {
    let kind = |filter: Filter| Kind {
        name: filter.name(),
        about: filter.description(),
        chosen: chosen(filter.name()),
    };
    Filter::ALL.into_iter().map(kind).collect()
}

fn message(error: impl std::error::Error) -> String {
    error.to_string()
}

fn keep<T>(result: Result<T, String>, error: &mut Option<String>) -> Option<T> {
    result.map_err(|text| *error = Some(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Form {
        Form::read(&Fields::parse(form.as_bytes()))
    }

    #[test]
    fn a_form_reads_back_as_the_webhook_that_it_was_made_from() {
        let form = "url=http%3A%2F%2Fx%2F&description=D&paused=on&filter=reports&filter=tasks\
                    &actions=Alerts.Create&header-name=X-A&header-value=1&header-name=\
                    &header-value=&property-name=a&property-kind=json&property-value=5\
                    &property-name=b&property-kind=text&property-value=5&rate-limit=+60";
        let wanted = read(form).check().unwrap();
        assert_eq!(wanted.filters.shown(), ["reports", "tasks", "alerts.create"]);
        assert_eq!(wanted.headers.iter().collect::<Vec<_>>(), [("X-A", "1")]);
        assert_eq!(wanted.properties.to_json(), r#"{"a":5,"b":"5"}"#);
        assert!(wanted.paused && wanted.secret.is_none());
        assert_eq!(wanted.rate_limit, RateLimit::Set(Some(60)));
    }

    #[test]
    fn an_invalid_form_reports_every_wrong_field_at_once() {
        let form = "url=ftp%3A%2F%2Fx&secret=short&actions=galaxies&header-name=Host&header-value=x\
                    &property-name=a&property-kind=json&property-value=%5B%5D&rate-limit=0";
        let errors = read(form).check().unwrap_err();
        assert!(errors.url.as_ref().unwrap().contains("must be absolute"));
        assert!(errors.secret.as_ref().unwrap().contains("between 32 and 128"));
        assert_eq!(
            errors.filters.as_deref(),
            Some("The following filters are not valid: 'galaxies'.")
        );
        assert!(errors.headers.as_ref().unwrap().contains("'Host'"));
        assert!(errors.properties.as_ref().unwrap().contains("'a'"));
        assert!(errors.rate_limit.as_ref().unwrap().contains("from 1 to 1000000"));
        assert_eq!(errors.count(), 6);
    }

    #[test]
    fn an_empty_form_requires_an_address_and_filters() {
        let errors = read("").check().unwrap_err();
        assert!(errors.url.is_some() && errors.filters.is_some());
        assert_eq!(errors.count(), 2);
        assert!(read("url=http%3A%2F%2Fx%2F&filter=*").check().unwrap().filters.shown() == ["*"]);
    }
}
