//! Formats a POST as text or JSON.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::check::Post;
use crate::output::plain;
use fanfare_app::clock;

/// A POST with its answer.
pub(super) struct Shown<'a> {
    /// When the POST arrived.
    pub(super) at: DateTime<Utc>,
    /// The path of the request.
    pub(super) path: &'a str,
    /// The status of the answer.
    pub(super) status: u16,
    pub(super) post: &'a Post,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: String,
    method: &'static str,
    path: &'a str,
    bytes: usize,
    id: Option<&'a str>,
    attempt: Option<i64>,
    ms_signature: Option<bool>,
    webhook_signature: Option<bool>,
    timestamp: Option<bool>,
    properties: Option<Box<RawValue>>,
    notifications: Vec<Box<RawValue>>,
    problems: &'a [String],
    status: u16,
}

impl Shown<'_> {
    /// One JSON object with a line break.
    pub(super) fn json_line(&self) -> String {
        // The texts are valid JSON. They are written unchanged, which keeps the sender's digits and
        // order of keys.
        let raw = |text: &String| RawValue::from_string(text.clone()).ok();
        let line = Line {
            at: clock::rfc3339(self.at),
            method: "POST",
            path: self.path,
            bytes: self.post.bytes,
            id: self.post.id.as_deref(),
            attempt: self.post.attempt,
            ms_signature: self.post.ms_signature,
            webhook_signature: self.post.webhook_signature,
            timestamp: self.post.timestamp,
            properties: self.post.properties.as_ref().and_then(raw),
            notifications: self.post.notifications.iter().filter_map(raw).collect(),
            problems: &self.post.problems,
            status: self.status,
        };
        // Serialization can't fail: the struct has only strings as keys.
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }

    /// A few lines for a person.
    pub(super) fn text(&self) -> String {
        let at = self.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let id = plain(self.post.id.as_deref().unwrap_or("?"));
        let attempt = self.post.attempt.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let path = plain(self.path);
        let mut text = format!(
            "{at}  POST {path}  Id {id}  attempt {attempt}  {} bytes  answered {}\n",
            self.post.bytes, self.status,
        );
        for notification in &self.post.notifications {
            let _ = writeln!(text, "  {}", describe(notification));
        }
        let _ = writeln!(text, "  {}", self.signatures());
        for problem in &self.post.problems {
            let _ = writeln!(text, "  ! {}", plain(problem));
        }
        text
    }

    fn signatures(&self) -> String {
        let result = |name: &str, right: Option<bool>| {
            let word = match right {
                Some(true) => "ok",
                Some(false) => "WRONG",
                None => "not checked",
            };
            format!("{name} {word}")
        };
        [
            result("ms-signature", self.post.ms_signature),
            result("webhook-signature", self.post.webhook_signature),
            result("time", self.post.timestamp),
        ]
        .join(", ")
    }
}

/// A notification by its best known keys: `reports upload  91ab04cd7e2  Quarterly sales`.
fn describe(notification: &str) -> String {
    let value: Value = serde_json::from_str(notification).unwrap_or_default();
    let text = |key: &str| match value.get(key) {
        Some(Value::String(text)) => plain(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => plain(&other.to_string()),
    };
    format!("{} {}  {}  {}", text("Action"), text("UserAction"), text("Id"), text("Name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post() -> Post {
        Post {
            bytes: 10,
            id: Some("0f8f".to_owned()),
            attempt: Some(1),
            ms_signature: Some(true),
            webhook_signature: Some(false),
            properties: Some("{}".to_owned()),
            notifications: vec![
                r#"{"Action":"reports","UserAction":"upload","Id":"r1","Name":"A\u001b[2J","N":1.50}"#.to_owned(),
            ],
            problems: vec!["webhook-signature does not match".to_owned()],
            ..Post::default()
        }
    }

    fn shown(post: &Post) -> Shown<'_> {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Shown { at, path: "/hook", status: 401, post }
    }

    #[test]
    fn text_output_has_every_part_and_escapes_control_characters() {
        let expected = "2027-01-15T08:00:00Z  POST /hook  Id 0f8f  attempt 1  10 bytes  answered 401\n  \
                        reports upload  r1  A\\u{1b}[2J\n  \
                        ms-signature ok, webhook-signature WRONG, time not checked\n  \
                        ! webhook-signature does not match\n";
        assert_eq!(shown(&post()).text(), expected);
    }

    #[test]
    fn json_output_is_one_line_with_the_keys_in_order() {
        let expected = concat!(
            r#"{"at":"2027-01-15T08:00:00.000Z","method":"POST","path":"/hook","bytes":10,"id":"0f8f","#,
            r#""attempt":1,"msSignature":true,"webhookSignature":false,"timestamp":null,"properties":{},"#,
            r#""notifications":[{"Action":"reports","UserAction":"upload","Id":"r1","Name":"A\u001b[2J","N":1.50}],"#,
            r#""problems":["webhook-signature does not match"],"status":401}"#,
            "\n",
        );
        assert_eq!(shown(&post()).json_line(), expected);
    }
}
