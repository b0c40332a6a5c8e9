//! The report server's answers about users, roles and permissions.
//!
//! Three versions of its API write them differently, and no version is documented in full. So members
//! match without case, unknown ones are ignored, ids are opaque, and an enumeration may be a number, a
//! number as text, or names. What can't be read fails, because a directory that is read in part would
//! take access away, or give it.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

/// An account of the report server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub name: String,
    pub enabled: bool,
}

/// A role with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub id: String,
    pub name: String,
    /// The ids of the users who have it.
    pub users: Vec<String>,
}

/// A permission of a user or role, as the report server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    pub id: String,
    /// Bits of [`MODES`].
    pub access: Flags,
    pub scope: Code,
    /// The resource or category; `None` for scopes that need none.
    pub resource: Option<String>,
}

/// A webhook as the report server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub id: String,
    pub url: String,
    /// `None` if the report server does not show it.
    pub secret: Option<String>,
    pub is_paused: bool,
    pub filters: Vec<String>,
    pub properties: serde_json::Map<String, Value>,
    /// The user to whom it belongs, if the report server says so.
    pub user: Option<String>,
    /// All of its members, with the names in lower case.
    pub members: serde_json::Map<String, Value>,
}

/// The categories of permissions. The API lists those of one user or role and one category.
pub const CATEGORIES: [&str; 5] =
    ["Report", "Category", "DataConnection", "ScheduledTask", "DataAlert"];

/// The bits of access, with their names in the report server and in the directory.
pub const MODES: [(u32, &str, &str); 5] = [
    (1, "Read", "read"),
    (2, "Modify", "modify"),
    (4, "Delete", "delete"),
    (8, "Create", "create"),
    (16, "ReadSubReports", "read-nested"),
];

/// All four of the first modes.
const UNRESTRICTED: (u32, &str) = (15, "Unrestricted");

/// The scopes by their numbers: the name in the report server, the name in the directory, and whether
/// it needs a target.
pub const SCOPES: [(&str, &str, bool); 11] = [
    ("AnyReport", "any-report", false),
    ("SpecificReport", "report", true),
    ("ReportsInCategory", "reports-in-category", true),
    ("AnyCategory", "any-category", false),
    ("SpecificCategory", "category", true),
    ("AnyDataConnection", "any-connection", false),
    ("SpecificDataConnection", "connection", true),
    ("AnyScheduledTask", "any-task", false),
    ("SpecificScheduledTask", "task", true),
    ("AnyDataAlert", "any-alert", false),
    ("SpecificDataAlert", "alert", true),
];

/// An element of an enumeration: a number, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    Number(u32),
    Name(String),
}

impl Code {
    /// The position of the scope in [`SCOPES`]; `None` if it is not known.
    #[must_use]
    pub fn scope(&self) -> Option<usize> {
        let position = match self {
            Self::Number(number) => usize::try_from(*number).ok(),
            Self::Name(name) => SCOPES.iter().position(|(it, ..)| it.eq_ignore_ascii_case(name)),
        };
        position.filter(|position| *position < SCOPES.len())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Bits of access. Bits and names that are not known are ignored: they could only grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// The modes' names in the directory.
    pub fn modes(self) -> impl Iterator<Item = &'static str> {
        MODES.into_iter().filter(move |(bit, ..)| self.0 & bit != 0).map(|(.., name)| name)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => small(&number.to_string()).map(Self::Number),
            Value::String(text) => {
                let text = text.trim();
                Some(small(text).map_or_else(|| Self::Name(text.to_owned()), Self::Number))
            }
            _ => None,
        }
        .ok_or_else(|| D::Error::custom("neither a number nor a name"))
    }
}

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bit = |name: &str| match small(name) {
            Some(bits) => bits,
            None if name.eq_ignore_ascii_case(UNRESTRICTED.1) => UNRESTRICTED.0,
            None => MODES
                .iter()
                .find(|(_, it, _)| it.eq_ignore_ascii_case(name))
                .map_or(0, |(bit, ..)| *bit),
        };
        let bits = match Code::deserialize(deserializer)? {
            Code::Number(bits) => bits,
            Code::Name(names) => names.split(',').map(str::trim).map(bit).fold(0, |a, b| a | b),
        };
        Ok(Self(bits))
    }
}

fn small(text: &str) -> Option<u32> {
    fanfare_core::json::integer(text).and_then(|number| u32::try_from(number).ok())
}

/// Why a list of the report server can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON, or not an array.
    #[error("expected a JSON array of objects: {0}")]
    Form(serde_json::Error),
    /// An object of the array lacks a member, or has it in a bad form.
    #[error("entry {position} has no valid {member}: {error}")]
    Member { position: usize, member: &'static str, error: serde_json::Error },
}

/// An object whose names are in lower case.
struct Object(HashMap<String, Value>);

impl Object {
    fn take<T: for<'de> Deserialize<'de>>(
        &mut self,
        member: &'static str,
    ) -> Result<T, serde_json::Error> {
        T::deserialize(self.0.remove(&member.to_ascii_lowercase()).unwrap_or(Value::Null))
    }
}

/// Reads a list. An empty body and an object are errors, not empty lists.
fn list<T>(
    body: &[u8],
    of: impl Fn(&mut Object) -> Result<T, (&'static str, serde_json::Error)>,
) -> Result<Vec<T>, Unreadable> {
    let body = fanfare_core::json::without_byte_order_mark(body);
    let entries: Vec<serde_json::Map<String, Value>> =
        serde_json::from_slice(body).map_err(Unreadable::Form)?;
    let read = |(position, entry): (usize, serde_json::Map<String, Value>)| {
        let members = entry.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        of(&mut Object(members.collect())).map_err(|(member, error)| Unreadable::Member {
            position,
            member,
            error,
        })
    };
    entries.into_iter().enumerate().map(read).collect()
}

/// Reads a list of users.
///
/// # Errors
///
/// [`Unreadable`]: an entry has no id, no name, or does not say whether the user is enabled.
pub fn users(body: &[u8]) -> Result<Vec<User>, Unreadable> {
    list(body, |object| {
        Ok(User {
            id: object.take("Id").map_err(|error| ("Id", error))?,
            name: object.take("Username").map_err(|error| ("Username", error))?,
            enabled: object.take("Enabled").map_err(|error| ("Enabled", error))?,
        })
    })
}

/// Reads a list of roles.
///
/// # Errors
///
/// [`Unreadable`]: an entry has no id, no name or no list of members.
pub fn roles(body: &[u8]) -> Result<Vec<Role>, Unreadable> {
    list(body, |object| {
        Ok(Role {
            id: object.take("Id").map_err(|error| ("Id", error))?,
            name: object.take("Name").map_err(|error| ("Name", error))?,
            users: object.take("UserIds").map_err(|error| ("UserIds", error))?,
        })
    })
}

/// Reads a list of permissions.
///
/// # Errors
///
/// [`Unreadable`]: an entry has no id, access or scope.
pub fn permissions(body: &[u8]) -> Result<Vec<Permission>, Unreadable> {
    list(body, |object| {
        let resource: Option<String> =
            object.take("ResourceId").map_err(|error| ("ResourceId", error))?;
        Ok(Permission {
            id: object.take("Id").map_err(|error| ("Id", error))?,
            access: object.take("Access").map_err(|error| ("Access", error))?,
            scope: object.take("Scope").map_err(|error| ("Scope", error))?,
            resource: resource.filter(|resource| !resource.is_empty()),
        })
    })
}

/// Reads a list of resources: their ids, and the categories of reports.
///
/// # Errors
///
/// [`Unreadable`]: an entry has no id.
pub fn resources(body: &[u8]) -> Result<Vec<(String, Option<String>)>, Unreadable> {
    list(body, |object| {
        let category = object.take("CategoryId").map_err(|error| ("CategoryId", error))?;
        Ok((object.take("Id").map_err(|error| ("Id", error))?, category))
    })
}

/// Reads a list of webhooks.
///
/// # Errors
///
/// [`Unreadable`]: an entry has no id or address.
pub fn hooks(body: &[u8]) -> Result<Vec<Hook>, Unreadable> {
    list(body, |object| {
        let members = object.0.clone().into_iter().collect();
        let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let flag: Option<bool> = object.take("IsPaused").map_err(|error| ("IsPaused", error))?;
        let filters: Option<_> = object.take("Filters").map_err(|error| ("Filters", error))?;
        let properties: Option<_> =
            object.take("Properties").map_err(|error| ("Properties", error))?;
        Ok(Hook {
            id: object.take("Id").map_err(|error| ("Id", error))?,
            url: object.take("WebHookUri").map_err(|error| ("WebHookUri", error))?,
            secret: text(object.take("Secret").map_err(|error| ("Secret", error))?),
            is_paused: flag.unwrap_or_default(),
            filters: filters.unwrap_or_default(),
            properties: properties.unwrap_or_default(),
            user: text(object.take("User").map_err(|error| ("User", error))?),
            members,
        })
    })
}

/// Reads when the reports of a list were changed last. A report that does not tell is left out.
///
/// # Errors
///
/// [`Unreadable`]: it is not a list.
pub fn modified(body: &[u8]) -> Result<Vec<DateTime<Utc>>, Unreadable> {
    let all: Vec<Option<DateTime<Utc>>> = list(body, |object| {
        let text = object.take::<Value>("LastModifiedDateUtc").unwrap_or_default();
        Ok(text.as_str().and_then(time))
    })?;
    Ok(all.into_iter().flatten().collect())
}

/// A time with or without an offset; without one it is UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok();
    let without = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok();
    with_offset.or_else(|| Some(without()?.and_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_match_without_case_and_others_are_ignored() {
        let body = br#"[{"id":"u1","USERNAME":"anna","Enabled":true,"Email":null}]"#;
        let anna = User { id: "u1".to_owned(), name: "anna".to_owned(), enabled: true };
        assert_eq!(users(body).unwrap(), [anna]);
        let body = "\u{feff}[{\"Id\":\"r1\",\"Name\":\"Reader\",\"IsSystemRole\":true,\"UserIds\":[\"u1\"]}]";
        assert_eq!(roles(body.as_bytes()).unwrap()[0].users, ["u1"]);
    }

    #[test]
    fn what_is_missing_is_an_error_that_names_it() {
        let fault = |body: &str| users(body.as_bytes()).unwrap_err().to_string();
        assert!(
            fault(r#"[{"Id":"u1","Username":"anna"}]"#).starts_with("entry 0 has no valid Enabled")
        );
        for body in ["{}", "", "<html>", "null", "[1]"] {
            assert!(fault(body).starts_with("expected a JSON array of objects"), "{body}");
        }
        let body = br#"[{"Id":"r1","Name":"Reader","UserIds":null}]"#;
        assert!(roles(body).unwrap_err().to_string().starts_with("entry 0 has no valid UserIds"));
    }

    #[test]
    fn enumerations_are_numbers_texts_or_names() {
        let read = |access: &str, scope: &str| {
            let body =
                format!(r#"[{{"Id":"p","Access":{access},"Scope":{scope},"ResourceId":"r"}}]"#);
            let permission = permissions(body.as_bytes()).unwrap().remove(0);
            (permission.access.modes().collect::<Vec<_>>(), permission.scope.scope())
        };
        assert_eq!(read("1", "2"), (vec!["read"], Some(2)));
        assert_eq!(read("\"3\"", "\"2\""), (vec!["read", "modify"], Some(2)));
        assert_eq!(
            read("\"Read, Modify\"", "\"reportsincategory\""),
            (vec!["read", "modify"], Some(2))
        );
        assert_eq!(
            read("\"Unrestricted\"", "10"),
            (vec!["read", "modify", "delete", "create"], Some(10))
        );
        assert_eq!(read("16.0", "11"), (vec!["read-nested"], None));
        // Unknown bits and names could only grant.
        assert_eq!(read("4096", "770"), (vec![], None));
        assert_eq!(read("\"Read, Own\"", "\"SpecificDashboard\""), (vec!["read"], None));
        assert!(permissions(br#"[{"Id":"p","Access":[1],"Scope":0}]"#).is_err());
        assert!(permissions(br#"[{"Id":"p","Access":-1,"Scope":0}]"#).is_err());
    }
}
