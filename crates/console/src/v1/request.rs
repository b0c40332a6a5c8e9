//! Extractors for requests: the user, the id in the path, the parameters and the body.

use std::mem::take;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use fanfare_app::Actor;
use fanfare_core::duration;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use serde::de::value::{self, MapDeserializer};
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use url::form_urlencoded;

use super::problem::{FieldError, Problem};
use crate::api::body;
use crate::app::Shared;
use crate::auth::caller::Caller;

/// The user who sends a request.
pub(crate) struct User(pub(crate) Actor);

impl FromRequestParts<Shared> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        Ok(Self(Caller::from_request_parts(parts, app).await?.actor()))
    }
}

/// The System Administrator who sends a request.
pub(crate) struct Administrator(pub(crate) Actor);

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let User(actor) = User::from_request_parts(parts, app).await?;
        let refused = Problem::Forbidden("do this");
        if actor.is_administrator() { Ok(Self(actor)) } else { Err(refused) }
    }
}

/// The id in a path. A text that is not an id names nothing.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<Shared> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let nothing = || Problem::NotFound("There is nothing with this id.");
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = path.map_err(|_| nothing())?;
        text.parse().map(Self).map_err(|_| nothing())
    }
}

/// The parameters of a query, each at most once. All errors in them are reported together.
///
/// The parameters have the names of the fields of `T`, a struct whose fields are read by
/// [`parameter`].
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Self).map_err(Problem::Invalid)
    }
}

/// Reads a query. It removes each wrong parameter and reads the others again, to find all errors.
pub(crate) fn read<T: DeserializeOwned>(query: &str) -> Result<T, Vec<FieldError>> {
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let mut parameters = Parameters { pairs, read: 0, wrong: Vec::new() };
    loop {
        match T::deserialize(&mut parameters) {
            Ok(value) if parameters.wrong.is_empty() => return Ok(value),
            Ok(_) => return Err(parameters.wrong),
            Err(error) => parameters.refuse_last(&error)?,
        }
    }
}

/// The parameters that are not known to be wrong, and the errors in the others.
struct Parameters {
    pairs: Vec<(String, String)>,
    /// The number of pairs that were read. An error is about the last of them.
    read: usize,
    wrong: Vec<FieldError>,
}

impl Parameters {
    fn refuse(&mut self, name: &str, detail: &str) {
        self.wrong.push(FieldError { name: name.to_owned(), detail: detail.to_owned() });
    }

    /// Removes the parameter that was read last.
    fn refuse_last(&mut self, error: &value::Error) -> Result<(), Vec<FieldError>> {
        let Some(last) = self.read.checked_sub(1) else {
            self.refuse("", &error.to_string());
            return Err(take(&mut self.wrong));
        };
        let (name, _) = self.pairs.remove(last);
        self.refuse(&name, &error.to_string());
        Ok(())
    }

    /// Removes the parameters that are unknown, empty or repeated.
    fn keep(&mut self, known: &[&str]) {
        let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        for (name, value) in take(&mut self.pairs) {
            if !known.contains(&name.as_str()) {
                self.refuse(
                    &name,
                    &format!("there is no such parameter; the parameters are {names}"),
                );
            } else if self.pairs.iter().any(|(kept, _)| *kept == name) {
                self.refuse(&name, "it appears more than once");
            } else if !value.is_empty() {
                self.pairs.push((name, value));
            }
        }
    }
}

impl<'de> Deserializer<'de> for &mut Parameters {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        self.keep(known);
        self.read = 0;
        let pairs = self.pairs.iter().inspect(|_| self.read += 1);
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
        visitor.visit_map(MapDeserializer::new(pairs))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        self.deserialize_struct("", &[], visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A value that can be read from a parameter's text. The error says what would be valid.
pub(crate) trait Parameter: Sized {
    fn read(text: &str) -> Result<Self, String>;
}

/// Reads a field of a query.
pub(crate) fn parameter<'de, D: Deserializer<'de>, T: Parameter>(
    text: D,
) -> Result<Option<T>, D::Error> {
    T::read(&String::deserialize(text)?).map(Some).map_err(D::Error::custom)
}

impl Parameter for WebhookId {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "an id has 32 hex digits".to_owned())
    }
}

/// Any text.
impl Parameter for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.contains('\0') { Err("it holds U+0000".to_owned()) } else { Ok(text.to_owned()) }
    }
}

/// A user's name.
impl Parameter for Name {
    fn read(text: &str) -> Result<Self, String> {
        let name = Self::parse(text);
        name.ok_or_else(|| "a name has 1 to 256 characters and no control characters".to_owned())
    }
}

/// `true` or `false`.
impl Parameter for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write true or false".to_owned())
    }
}

/// A whole number within a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Within<const LEAST: u32, const MOST: u32>(pub(crate) u32);

impl<const LEAST: u32, const MOST: u32> Parameter for Within<LEAST, MOST> {
    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
        number.map(Self).ok_or_else(|| format!("write a whole number from {LEAST} to {MOST}"))
    }
}

/// A time within the years that the database can store.
impl Parameter for DateTime<Utc> {
    fn read(text: &str) -> Result<Self, String> {
        // A `+` that was not escaped is read as a space.
        let parsed = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
        let time = parsed.ok().map(|time| time.to_utc());
        let known = 0..=253_402_300_799;
        time.filter(|time| known.contains(&time.timestamp()))
            .ok_or_else(|| "write a time as 2026-11-23T10:00:00Z".to_owned())
    }
}

/// Reads a duration of whole seconds, such as `90s`, `24h` or `7d`, up to `most`. Zero needs no
/// unit.
pub(crate) fn duration(text: &str, most: Duration) -> Result<Duration, String> {
    let text = if text == "0" { "0s" } else { text };
    let whole = duration::parse(text).filter(|_| !text.ends_with("ms"));
    whole.filter(|duration| *duration <= most).ok_or_else(|| {
        let days = most.as_secs() / 86_400;
        format!("write it as 0s, 90s, 30m, 24h or 2d, at most {days}d")
    })
}

/// Reads the members of a body. The body may be empty if all members may be left out.
pub(crate) async fn members<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = body::read(body).await?;
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes.as_slice() };
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() { "does not have the expected form" } else { "is not JSON" };
        Problem::invalid("", format!("the body {what}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Known {
        #[serde(deserialize_with = "parameter")]
        limit: Option<Within<1, 9>>,
        #[serde(deserialize_with = "parameter")]
        dry_run: Option<bool>,
        #[serde(deserialize_with = "parameter")]
        text: Option<String>,
    }

    #[test]
    fn a_query_reports_all_errors_together() {
        let wrong = read::<Known>("limit=0&a=1&limit=5&text=&dryRun=yes&text=b").unwrap_err();
        let names: Vec<&str> = wrong.iter().map(|wrong| wrong.name.as_str()).collect();
        assert_eq!(names, ["a", "limit", "limit", "dryRun"]);
        assert_eq!(
            wrong[0].detail,
            "there is no such parameter; the parameters are limit, dryRun, text"
        );
        assert_eq!(wrong[2].detail, "write a whole number from 1 to 9");
    }

    #[test]
    fn parameters_may_be_left_out_or_empty() {
        let expected =
            Known { limit: Some(Within(9)), dry_run: None, text: Some("a b".to_owned()) };
        assert_eq!(read("dryRun=&text=a+b&limit=9"), Ok(expected));
        assert_eq!(read(""), Ok(Known::default()));
    }

    fn time(text: &str) -> Result<DateTime<Utc>, String> {
        Parameter::read(text)
    }

    #[test]
    fn times_and_durations_have_limits() {
        assert_eq!(time("2026-11-23T10:00:00 01:00").unwrap().timestamp(), 1_795_424_400);
        for text in ["", "2026-11-23", "-9999-01-01T00:00:00Z", "now"] {
            assert!(time(text).is_err(), "{text}");
        }
        let week = Duration::from_hours(7 * 24);
        assert_eq!(duration("24h", week), Ok(Duration::from_hours(24)));
        assert_eq!(duration("7d", week), Ok(week));
        assert_eq!(duration("0", week), Ok(Duration::ZERO));
        for text in ["", "5", "h", "8d", "-1h", "1w", "500ms", "99999999999999999999d"] {
            assert!(duration(text, week).is_err(), "{text}");
        }
    }
}
