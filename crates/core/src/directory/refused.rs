//! The effect of a refused document: the grants that it voids.
//!
//! A refused document may have revoked grants, so the document that it replaces must not stay in
//! force. A lenient second parser finds the user or role that it names. That user or role has no
//! grants from the document's revision on, until a later or corrected document arrives. A snapshot
//! concerns all users, so it holds all events. A document whose name or revision can't be read
//! voids nothing; its revision counts as missing.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Content, Document, Kind, RoleDocument, UserDocument};
use crate::event::{AttributeValue, EventMessage, MAX_BATCH};
use crate::json::{self, without_byte_order_mark};
use crate::name::Name;
use crate::reject::Reject;

/// The members that are needed, of an object that may be as large as the broker accepts.
type Members<'a> = HashMap<String, &'a RawValue>;
const MEMBERS: [&str; 6] = ["type", "accessrevision", "data", "name", "enabled", "deleted"];

/// The effects of the refused documents in a message.
///
/// `routing_key` names the kind of a document whose own type can't be read.
#[must_use]
pub fn in_message(message: &EventMessage<'_>, routing_key: &str, why: &str) -> Vec<Document> {
    if !message.is_binary() {
        return in_body(routing_key, message.body, why);
    }
    let attribute = |name| message.attribute(name).and_then(AttributeValue::to_text);
    let revision = attribute("accessrevision").and_then(|text| revision(&text));
    let data = serde_json::from_slice(without_byte_order_mark(message.body)).ok();
    let event_type = attribute("type");
    let event_type = event_type.as_deref().unwrap_or(routing_key);
    of(event_type, revision, data, why).into_iter().collect()
}

/// The effects of a refusal of a message, or of the entry `raw` of it, as [`in_message`].
#[must_use]
pub fn of_refusal(
    message: &EventMessage<'_>,
    routing_key: &str,
    reject: &Reject,
    raw: Option<&str>,
) -> Vec<Document> {
    let why = &reject.detail;
    let Some(raw) = raw else { return in_message(message, routing_key, why) };
    let entry = serde_json::from_str::<&RawValue>(raw).ok();
    entry.and_then(|entry| in_entry("", entry, why)).into_iter().collect()
}

/// The refusal with its effects in the detail.
#[must_use]
pub fn with_consequences(reject: Reject, voided: &[Document]) -> Reject {
    let mut detail = reject.detail;
    for document in voided {
        detail.push_str("; ");
        detail.push_str(&document.consequence());
    }
    Reject { detail, ..reject }
}

/// The effects of the refused documents in a body: one, or an array.
fn in_body(routing_key: &str, body: &[u8], why: &str) -> Vec<Document> {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(without_byte_order_mark(body)) else {
        return of(routing_key, None, None, why).into_iter().collect();
    };
    if !raw.get().starts_with('[') {
        return in_entry(routing_key, raw, why).into_iter().collect();
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Entries(why)).unwrap_or_default()
}

/// Reads the entries of an array one by one, since there may be millions. The entries beyond the
/// limit of a batch count as one refused snapshot.
struct Entries<'w>(&'w str);

impl<'a> Visitor<'a> for Entries<'_> {
    type Value = Vec<Document>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut entries: A) -> Result<Vec<Document>, A::Error> {
        let (mut found, mut are_more) = (Vec::new(), false);
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            match in_entry("", entry, self.0) {
                Some(document) if found.len() < MAX_BATCH => found.push(document),
                more => are_more |= more.is_some(),
            }
        }
        if are_more {
            // No valid batch has that many entries. The users and roles in the rest are not recorded;
            // a refused snapshot holds all events instead.
            let content = Content::RefusedSnapshot { why: self.0.to_owned() };
            found.push(Document { revision: 0, content });
        }
        Ok(found)
    }
}

/// The effect of a refused entry, if it is a document of the directory.
#[must_use]
pub fn in_entry(fallback: &str, entry: &RawValue, why: &str) -> Option<Document> {
    let members = members(entry);
    let event_type = member(&members, "type").and_then(text);
    let revision = member(&members, "accessrevision").and_then(|raw| revision(raw.get()));
    of(event_type.as_deref().unwrap_or(fallback), revision, member(&members, "data"), why)
}

/// The effect of a refused document with these attributes.
#[must_use]
pub fn of(
    event_type: &str,
    revision: Option<i64>,
    data: Option<&RawValue>,
    why: &str,
) -> Option<Document> {
    let kind = Kind::parse(event_type.trim()).ok()?;
    if kind == Kind::Snapshot {
        let content = Content::RefusedSnapshot { why: why.to_owned() };
        return Some(Document { revision: revision.unwrap_or(0), content });
    }
    let (revision, data) = (revision?, data?);
    let members = members(data);
    let name = Name::parse(&member(&members, "name").and_then(text)?)?;
    // Flags that can be read count. A flag that can't be read counts as the value that grants less.
    let flag = |name| member(&members, name).map(RawValue::get);
    let deleted = flag("deleted") == Some("true");
    let enabled = matches!(flag("enabled"), None | Some("true"))
        && matches!(flag("deleted"), None | Some("false" | "null"));
    let raw = json::compact(data);
    let content = if kind == Kind::User {
        let (roles, permissions) = (Vec::new(), Vec::new());
        Content::User(UserDocument { name, deleted, enabled, void: true, roles, permissions, raw })
    } else {
        let permissions = Vec::new();
        Content::Role(RoleDocument { name, deleted, void: true, permissions, raw })
    };
    Some(Document { revision, content })
}

impl Document {
    /// The effect of this document if the database refuses it.
    #[must_use]
    pub fn voided(&self, why: &str) -> Self {
        let raw = || "{}".to_owned();
        let content = match &self.content {
            Content::User(user) => Content::User(UserDocument {
                void: true,
                roles: Vec::new(),
                permissions: Vec::new(),
                raw: raw(),
                ..user.clone()
            }),
            Content::Role(role) => Content::Role(RoleDocument {
                void: true,
                permissions: Vec::new(),
                raw: raw(),
                ..role.clone()
            }),
            Content::Snapshot { .. } | Content::RefusedSnapshot { .. } => {
                Content::RefusedSnapshot { why: why.to_owned() }
            }
        };
        Self { revision: self.revision, content }
    }

    /// The effect in words, for the end of the refusal's detail.
    #[must_use]
    pub fn consequence(&self) -> String {
        let void = |kind, name: &Name| {
            format!(
                "until it is corrected or a newer document arrives, the permissions of the {kind} {name} \
                 count for nothing"
            )
        };
        match &self.content {
            Content::User(user) => void("user", &user.name),
            Content::Role(role) => void("role", &role.name),
            Content::Snapshot { .. } | Content::RefusedSnapshot { .. } => {
                "every event is held until a newer snapshot or an import is accepted, or an \
                 administrator runs `fanfare directory accept-refused`"
                    .to_owned()
            }
        }
    }
}

fn members(raw: &RawValue) -> Members<'_> {
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(KnownMembers).unwrap_or_default()
}

/// Reads the [`MEMBERS`] of an object, whatever the case of their names.
struct KnownMembers;

impl<'a> Visitor<'a> for KnownMembers {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Members<'a>, A::Error> {
        let mut found = Members::new();
        while let Some((name, value)) = members.next_entry::<String, &RawValue>()? {
            if MEMBERS.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                found.insert(name, value);
            }
        }
        Ok(found)
    }
}

/// The member with this name, which is compared without case.
fn member<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    let any_case = || members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    members.get(name).copied().or_else(|| any_case().map(|(_, raw)| *raw))
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// Parses a revision as leniently as possible: as a number or in quotes, in any notation.
fn revision(raw: &str) -> Option<i64> {
    json::integer(raw.trim_matches('"').trim()).filter(|revision| *revision >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(fallback: &str, body: &str) -> Option<Document> {
        let mut all = in_body(fallback, body.as_bytes(), "why");
        assert!(all.len() < 2, "{all:?}");
        all.pop()
    }

    #[test]
    fn a_refused_user_has_no_grants() {
        let text = r#"{"type":"directory.user","accessrevision":7,"data":{"name":" Anna ","roles":1,
            "permissions":[{"access":["read"],"scope":"any-task"}]}}"#;
        let document = one("", text).unwrap();
        assert_eq!(document.revision, 7);
        let Content::User(user) = document.content else { panic!("a user is a user") };
        assert_eq!((user.name.as_str(), user.enabled, user.deleted), ("Anna", true, false));
        assert!(user.void && user.permissions.is_empty() && user.roles.is_empty());
    }

    #[test]
    fn an_unreadable_flag_of_a_refused_user_counts_as_the_value_that_grants_less() {
        for (data, enabled, deleted) in [
            (r#"{"name":"a","roles":1}"#, true, false),
            (r#"{"name":"a","enabled":"no"}"#, false, false),
            (r#"{"name":"a","Enabled":false}"#, false, false),
            (r#"{"name":"a","roles":1,"deleted":true}"#, false, true),
            (r#"{"name":"a","roles":1,"deleted":"yes"}"#, false, false),
        ] {
            let raw: &RawValue = serde_json::from_str(data).unwrap();
            match of("Directory.User", Some(1), Some(raw), "why").unwrap().content {
                Content::User(user) => {
                    assert_eq!((user.enabled, user.deleted), (enabled, deleted), "{data}");
                }
                other => panic!("expected a user, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_refused_snapshot_is_recognised_even_if_its_data_is_unreadable() {
        for (fallback, body, revision) in [
            ("", r#"{"type":"directory.snapshot","accessrevision":"9","data":[]}"#, 9),
            ("", r#"{"type":"directory.snapshot","accessRevision":9.0}"#, 9),
            ("directory.snapshot", r#"{"type":"directory.snap"#, 0),
            ("directory.snapshot", "\u{feff}{}", 0),
        ] {
            let document = one(fallback, body).unwrap();
            assert_eq!(document.revision, revision, "{body}");
            assert!(matches!(document.content, Content::RefusedSnapshot { .. }));
        }
    }

    #[test]
    fn a_refused_document_without_a_name_or_revision_has_no_effect() {
        for (fallback, body) in [
            (
                "directory.user",
                r#"{"type":"directory.user","accessrevision":1,"data":{"name":""}}"#,
            ),
            ("directory.user", r#"{"type":"directory.user","data":{"name":"a","roles":1}}"#),
            ("directory.user", "not json"),
            ("tasks.edit", r#"{"type":"tasks.edit","accessrevision":1,"data":{"name":"a"}}"#),
        ] {
            assert!(one(fallback, body).is_none(), "{body}");
        }
    }

    #[test]
    fn each_refused_document_of_an_array_has_an_effect() {
        let body = r#"[{"type":"directory.user","accessrevision":1,"data":{"name":"a","roles":1}},
            {"type":"tasks.edit"}, 3,
            {"type":"directory.role","accessrevision":2,"data":{"name":"r","permissions":1}}]"#;
        let revisions = in_body("directory.user", body.as_bytes(), "why");
        let revisions: Vec<i64> = revisions.iter().map(|document| document.revision).collect();
        assert_eq!(revisions, [1, 2]);
    }

    #[test]
    fn documents_beyond_the_limit_of_a_batch_count_as_one_refused_snapshot() {
        let batch = |documents: usize| {
            let document = r#"{"type":"directory.user","accessrevision":1,"data":{"name":"a"}}"#;
            let entries = [vec![document; documents], vec![r#"{"type":"tasks.edit"}"#; 9]];
            in_body("", format!("[{}]", entries.concat().join(",")).as_bytes(), "why")
        };
        let is_snapshot =
            |it: &Document| matches!(&it.content, Content::RefusedSnapshot { why } if why == "why");
        let all = batch(MAX_BATCH);
        assert!(all.len() == MAX_BATCH && !all.iter().any(is_snapshot));
        for documents in [MAX_BATCH + 1, 3 * MAX_BATCH] {
            let found = batch(documents);
            assert_eq!(found.len(), MAX_BATCH + 1);
            assert!(found.last().is_some_and(is_snapshot));
        }
    }
}
