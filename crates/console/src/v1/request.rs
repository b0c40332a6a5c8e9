//! What a request brings: who sends it, what its path names, its parameters, its body.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use fanfare_core::duration;
use fanfare_core::name::Name;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::problem::{Problem, Wrong};
use crate::api::body;
use crate::app::Shared;
use crate::auth::caller::Caller;

/// The user who sends a request.
pub(crate) struct User(pub(crate) Caller);

impl FromRequestParts<Shared> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        Ok(Self(Caller::from_request_parts(parts, app).await?))
    }
}

/// The same, for what is for System Administrators.
pub(crate) struct Administrator(pub(crate) Caller);

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let User(caller) = User::from_request_parts(parts, app).await?;
        let refused = Problem::Forbidden("do this");
        if caller.administrator { Ok(Self(caller)) } else { Err(refused) }
    }
}

impl User {
    /// Limits a question to the owner whose things are asked for.
    pub(crate) fn owner_filter(&self, wanted: Option<Name>) -> Result<Option<Name>, Problem> {
        Ok(self.0.actor().owner_filter(wanted)?)
    }
}

/// What a path names. What is no id names nothing.
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

/// A query's parameters, and all that is wrong with them.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    wrong: Vec<Wrong>,
}

impl Query {
    /// Reads a query that may have these parameters, each once.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Self {
        let mut query = Self { pairs: Vec::new(), wrong: Vec::new() };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let is_twice = query.pairs.iter().any(|(there, _)| *there == name);
            if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                query.refuse(&name, &format!("there is no such parameter; there are {known}"));
            } else if is_twice {
                query.refuse(&name, "it is there more than once");
            } else if !value.is_empty() {
                query.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        query
    }

    /// A parameter's value; `None` when it is not there or wrong.
    pub(crate) fn take<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let at = self.pairs.iter().position(|(there, _)| there == name)?;
        let (name, text) = self.pairs.swap_remove(at);
        match parse(&text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.refuse(&name, &detail);
                None
            }
        }
    }

    /// Fails when anything was wrong.
    pub(crate) fn end(self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.wrong)) }
    }

    fn refuse(&mut self, name: &str, detail: &str) {
        self.wrong.push(Wrong { name: name.to_owned(), detail: detail.to_owned() });
    }
}

/// An id.
pub(crate) fn id<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "an id has 32 hex digits".to_owned())
}

/// Any text.
pub(crate) fn text(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("it holds U+0000".to_owned()) } else { Ok(text.to_owned()) }
}

/// A user's name.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| "a name has 1 to 256 characters, none a control one".to_owned())
}

/// `true` or `false`.
pub(crate) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// A whole number of a range.
pub(crate) fn number(least: i64, most: i64) -> impl Fn(&str) -> Result<i64, String> {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("write a whole number from {least} to {most}"))
    }
}

/// A time, between years that the database knows.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    // A `+` that was not escaped reads as a space.
    let parsed = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
    let time = parsed.ok().map(|time| time.to_utc());
    let known = 0..=253_402_300_799;
    time.filter(|time| known.contains(&time.timestamp()))
        .ok_or_else(|| "write a time as 2026-11-23T10:00:00Z".to_owned())
}

/// A duration of whole seconds, such as `90s`, `24h` or `7d`, up to `most`; a 0 needs no unit.
pub(crate) fn duration(text: &str, most: Duration) -> Result<Duration, String> {
    let text = if text == "0" { "0s" } else { text };
    let whole = duration::parse(text).filter(|_| !text.ends_with("ms"));
    whole.filter(|duration| *duration <= most).ok_or_else(|| {
        let days = most.as_secs() / 86_400;
        format!("write it as 0s, 90s, 30m, 24h or 2d, at most {days}d")
    })
}

/// The members of a body, which may be empty when all of them may be left out.
pub(crate) async fn members<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = body::read(body).await?;
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes.as_slice() };
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() { "is not as it should be" } else { "is not JSON" };
        Problem::invalid("", format!("the body {what}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_told_at_once() {
        let uri: Uri = "/x?limit=0&a=1&limit=5&flag=yes&empty=".parse().unwrap();
        let mut query = Query::of(&uri, &["limit", "flag", "empty"]);
        assert_eq!(query.take("limit", number(1, 9)), None);
        assert_eq!(query.take("flag", flag), None);
        assert_eq!(query.take("empty", text), None);
        let Err(Problem::Invalid(wrong)) = query.end() else { panic!("it is wrong") };
        let names: Vec<&str> = wrong.iter().map(|wrong| wrong.name.as_str()).collect();
        assert_eq!(names, ["a", "limit", "limit", "flag"]);
    }

    #[test]
    fn times_and_durations_are_read() {
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
