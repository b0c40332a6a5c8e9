//! The check of a notification's signatures: which part does not match, and the likely cause.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use fanfare_core::json;
use fanfare_core::signature::{
    MS_SIGNATURE, TOLERANCE_S, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    verify_ms_signature, verify_webhook_signature,
};
use fanfare_core::webhook::Secret;
use serde_json::Value;
use serde_json::value::RawValue;

use super::components::shortened;

/// The length of pasted text that is quoted in a message, in characters.
const QUOTED: usize = 120;

/// The grade of a part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    Good,
    Warn,
    Bad,
}

/// The result for one part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) part: &'static str,
    pub(super) grade: Grade,
    pub(super) text: String,
}

/// A request that a receiver got, as the visitor pasted it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) body: &'a str,
    pub(super) headers: &'a str,
}

impl Grade {
    /// The CSS class of the list item.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

fn verdict(part: &'static str, grade: Grade, text: impl Into<String>) -> Verdict {
    Verdict { part, grade, text: text.into() }
}

/// Reads the secret to check with, in its own form or in the form for Standard Webhooks libraries.
pub(super) fn secret(text: &str) -> Result<(Secret, Option<Verdict>), Verdict> {
    let bad = |text: &str| verdict("Secret", Grade::Bad, text);
    if let Some(encoded) = text.strip_prefix("whsec_") {
        let decoded = BASE64_STANDARD.decode(encoded).ok();
        let secret = decoded.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        let secret = secret.ok_or_else(|| {
            bad("The text after whsec_ is not a secret of this service in base64.")
        })?;
        let note = "This is the form for Standard Webhooks libraries. For ms-signature the secret \
                    itself is the key, without whsec_ and not in base64.";
        return Ok((secret, Some(verdict("Secret", Grade::Warn, note))));
    }
    let secret = text.parse().map_err(|_| {
        bad("A secret has 32 to 128 characters. Copy it whole, without quotes around it.")
    })?;
    Ok((secret, None))
}

/// Checks both signatures.
pub(super) fn judge(received: Received<'_>, secret: &Secret, now: DateTime<Utc>) -> Vec<Verdict> {
    let headers = Headers::parse(received.headers);
    let mut verdicts = vec![of_body(received.body)];
    verdicts.push(ms(received.body, &headers, secret));
    verdicts.extend(standard(received.body, &headers, secret, now));
    verdicts
}

fn of_body(body: &str) -> Verdict {
    match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(object)) if object.contains_key("Notifications") => {
            verdict("Body", Grade::Good, "It is a notification in JSON.")
        }
        Ok(_) => verdict(
            "Body",
            Grade::Bad,
            "It is JSON but not a notification: it has no member Notifications.",
        ),
        Err(error) => verdict(
            "Body",
            Grade::Bad,
            format!("It is not JSON ({error}). Paste the whole body, without the headers."),
        ),
    }
}

/// Header lines of the form `Name: value`.
struct Headers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Headers<'a> {
    fn parse(text: &'a str) -> Self {
        let header = |line: &'a str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim(), value.trim()))
        };
        Self(text.lines().filter_map(header).collect())
    }

    /// Returns the header with this name, or an error if it is missing or repeated.
    fn one(&self, name: &'static str) -> Result<&'a str, Verdict> {
        let mut found = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (None, _) => Err(verdict(
                name,
                Grade::Bad,
                "The header is missing. If it did not arrive, a proxy may have removed it.",
            )),
            (Some(_), Some(_)) => Err(verdict(
                name,
                Grade::Bad,
                "The header appears more than once, but is sent once. Do not trust such a request.",
            )),
            (Some((_, value)), None) => Ok(value),
        }
    }
}

fn ms(body: &str, headers: &Headers<'_>, secret: &Secret) -> Verdict {
    let value = match headers.one(MS_SIGNATURE) {
        Ok(value) => value,
        Err(missing) => return missing,
    };
    let say = |grade, text: &str| verdict(MS_SIGNATURE, grade, text);
    if verify_ms_signature(secret, body.as_bytes(), value) {
        return say(Grade::Good, "It matches the body and the secret.");
    }
    let digits = value.strip_prefix("sha256=");
    let Some(digits) = digits.filter(|it| it.len() == 64 && is_hex(it)) else {
        let text =
            format!("It is not sha256= and 64 hex digits but '{}'.", shortened(value, QUOTED));
        return verdict(MS_SIGNATURE, Grade::Bad, text);
    };
    let matches = |body: &str, digits: &str| {
        let value = format!("sha256={}", digits.to_ascii_uppercase());
        verify_ms_signature(secret, body.as_bytes(), &value)
    };
    if matches(body, digits) {
        return say(
            Grade::Warn,
            "It matches, but its digits are in lower case, and were sent in upper case. Compare \
             without case, or find out what changed them.",
        );
    }
    match changed(body, |body| matches(body, digits)) {
        Some(how) => say(Grade::Bad, how),
        None => say(
            Grade::Bad,
            "It does not match: the body is not the one that was signed, or the secret is another. \
             Sign the bytes as received, before any parser changes them.",
        ),
    }
}

fn standard(
    body: &str,
    headers: &Headers<'_>,
    secret: &Secret,
    now: DateTime<Utc>,
) -> Vec<Verdict> {
    let (id, timestamp, signature) =
        (headers.one(WEBHOOK_ID), headers.one(WEBHOOK_TIMESTAMP), headers.one(WEBHOOK_SIGNATURE));
    let (id, timestamp, signature) = match (id, timestamp, signature) {
        (Ok(id), Ok(timestamp), Ok(signature)) => (id, timestamp, signature),
        (id, timestamp, signature) => {
            return [id, timestamp, signature].into_iter().filter_map(Result::err).collect();
        }
    };
    let own = serde_json::from_str::<Value>(body).ok();
    let own = own.as_ref().and_then(|body| body.get("Id")).and_then(Value::as_str);
    let of_id = match own {
        Some(own) if own != id => verdict(
            WEBHOOK_ID,
            Grade::Bad,
            "It is not the Id in the body: the headers and the body are of two requests.",
        ),
        _ => verdict(WEBHOOK_ID, Grade::Good, "It is the Id in the body."),
    };
    let verify =
        |body: &str| verify_webhook_signature(secret, id, timestamp, body.as_bytes(), signature);
    vec![of_id, of_time(timestamp, now), of_signature(body, signature, verify)]
}

fn of_time(timestamp: &str, now: DateTime<Utc>) -> Verdict {
    let Ok(sent) = timestamp.parse::<i64>() else {
        return verdict(WEBHOOK_TIMESTAMP, Grade::Bad, "It is not a number of seconds.");
    };
    let age = now.timestamp().saturating_sub(sent);
    if age.saturating_abs() <= TOLERANCE_S {
        return verdict(WEBHOOK_TIMESTAMP, Grade::Good, "It is within 5 minutes of now.");
    }
    let which = if age > 0 { "ago" } else { "ahead" };
    let text = format!(
        "It is {} s {which}. Libraries refuse what is more than 5 minutes off: fine for an old \
         request, but if it has just come, set the receiver's clock.",
        age.saturating_abs()
    );
    verdict(WEBHOOK_TIMESTAMP, Grade::Warn, text)
}

fn of_signature(body: &str, signature: &str, verify: impl Fn(&str) -> bool) -> Verdict {
    let say = |grade, text: &str| verdict(WEBHOOK_SIGNATURE, grade, text);
    if verify(body) {
        return say(Grade::Good, "One of its entries matches id, time, body and secret.");
    }
    if !signature.split(' ').any(|entry| entry.starts_with("v1,")) {
        return say(
            Grade::Bad,
            "None of its entries begins with v1, although each one is sent so.",
        );
    }
    match changed(body, verify) {
        Some(how) => say(Grade::Bad, how),
        None => say(
            Grade::Bad,
            "No entry matches webhook-id, webhook-timestamp, body and secret together. The \
             signed text is the first three, joined by dots, with the body's bytes as received.",
        ),
    }
}

/// Finds out how the body was changed: returns the change whose reversal makes it match.
fn changed(body: &str, matches: impl Fn(&str) -> bool) -> Option<&'static str> {
    let trimmed = body.trim();
    if trimmed != body && matches(trimmed) {
        return Some("It matches without the white space around the body, which was not sent.");
    }
    let compact = json::compact(serde_json::from_str::<&RawValue>(trimmed).ok()?);
    matches(&compact).then_some(
        "It matches the body without the white space between its parts: something parsed and \
         reformatted it. Sign the bytes as received.",
    )
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::signature::{library_secret, ms_signature, webhook_signature};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const ID: &str = "0f8fad5bd9cb469fa16570867728950e";
    const BODY: &str = r#"{"Id":"0f8fad5bd9cb469fa16570867728950e","Attempt":1,"Properties":{},"Notifications":[{"Action":"reports"}]}"#;

    fn key() -> Secret {
        SECRET.parse().unwrap()
    }

    fn headers(at: i64) -> String {
        let ms = ms_signature(&key(), BODY.as_bytes());
        let standard = webhook_signature(&[key()], ID.parse().unwrap(), at, BODY.as_bytes());
        format!(
            "MS-Signature: {ms}\nwebhook-id: {ID}\nwebhook-timestamp: {at}\n\
             webhook-signature: {standard}"
        )
    }

    fn grades(body: &str, headers: &str, secret: &Secret) -> Vec<(&'static str, Grade)> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let verdicts = judge(Received { body, headers }, secret, now);
        verdicts.into_iter().map(|it| (it.part, it.grade)).collect()
    }

    #[test]
    fn a_correct_request_is_good_in_all_parts() {
        let grades = grades(BODY, &headers(1_800_000_000), &key());
        assert_eq!(grades.len(), 5);
        assert!(grades.iter().all(|(_, grade)| *grade == Grade::Good), "{grades:?}");
    }

    #[test]
    fn the_part_that_does_not_match_is_named() {
        let right = headers(1_800_000_000);
        let other = "fedcba9876543210fedcba9876543210".parse().unwrap();
        let bad = |grades: Vec<(&'static str, Grade)>| {
            let bad = grades.into_iter().filter(|(_, grade)| *grade == Grade::Bad);
            bad.map(|(part, _)| part).collect::<Vec<_>>()
        };
        assert_eq!(bad(grades(BODY, &right, &other)), [MS_SIGNATURE, WEBHOOK_SIGNATURE]);
        let moved = right.replace("timestamp: 1800000000", "timestamp: 1800000001");
        assert_eq!(bad(grades(BODY, &moved, &key())), [WEBHOOK_SIGNATURE]);
        assert_eq!(bad(grades("{", &right, &key())), ["Body", MS_SIGNATURE, WEBHOOK_SIGNATURE]);
        let without = right.replace("MS-Signature", "X");
        assert_eq!(bad(grades(BODY, &without, &key())), [MS_SIGNATURE]);
        let old = grades(BODY, &headers(1_700_000_000), &key());
        assert_eq!(old.get(3), Some(&(WEBHOOK_TIMESTAMP, Grade::Warn)));
    }

    #[test]
    fn a_body_that_was_reformatted_is_recognised() {
        let right = headers(1_800_000_000);
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let pretty = BODY.replace(',', ", ");
        for body in [pretty.as_str(), &format!("{BODY}\n")] {
            let received = Received { body, headers: &right };
            let texts: Vec<String> =
                judge(received, &key(), now).into_iter().map(|it| it.text).collect();
            assert_eq!(texts.iter().filter(|it| it.contains("without the white")).count(), 2);
        }
    }

    #[test]
    fn both_forms_of_a_secret_are_accepted() {
        assert_eq!(secret(SECRET).unwrap(), (key(), None));
        let (found, note) = secret(&library_secret(&key())).unwrap();
        assert!(found == key() && note.is_some());
        assert!(secret("whsec_x").is_err() && secret("short").is_err());
    }
}
