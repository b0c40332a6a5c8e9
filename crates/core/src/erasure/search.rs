//! Searches JSON for a user: a string or a number below a key about users.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::name::{Name, fold};

/// Parts of keys about users, in lower case.
const ABOUT_USERS: [&str; 4] = ["user", "owner", "actor", "author"];

/// The key of a notification that has the action, and no user.
const USER_ACTION: &str = "UserAction";

/// How deep JSON in strings of JSON is searched.
const DEEPEST: u32 = 4;

/// Whether JSON names this user. All members are read, also those with the same key.
pub(super) fn names_user(json: &str, name: &Name) -> Result<bool, serde_json::Error> {
    search(json, name, false, 0)
}

/// Whether a member with this key and text names the user.
pub(super) fn names_user_in(key: &str, text: &str, name: &Name) -> bool {
    is_about_users(key) && fold(text) == name.key()
}

fn is_about_users(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    key != USER_ACTION
        && (ABOUT_USERS.iter().any(|part| lower.contains(part)) || lower.ends_with("by"))
}

fn search(
    json: &str,
    name: &Name,
    about_users: bool,
    depth: u32,
) -> Result<bool, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = Search { name, about_users, depth }.deserialize(&mut reader)?;
    reader.end().map(|()| found)
}

/// Reads one value, and says whether it names the user.
#[derive(Clone, Copy)]
struct Search<'a> {
    name: &'a Name,
    /// Whether it is below a key about users.
    about_users: bool,
    depth: u32,
}

impl Search<'_> {
    fn is_named(self, text: &str) -> bool {
        let holds_json = text.trim_start().starts_with(['{', '[']) && self.depth < DEEPEST;
        (self.about_users && fold(text) == self.name.key())
            || (holds_json
                && search(text, self.name, self.about_users, self.depth + 1).unwrap_or_default())
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, number: i64) -> Result<bool, E> {
        Ok(self.is_named(&number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<bool, E> {
        Ok(self.is_named(&number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.is_named(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(one) = values.next_element_seed(self)? {
            found |= one;
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = members.next_key::<Cow<'_, str>>()? {
            let about_users = self.about_users || is_about_users(&key);
            found |= members.next_value_seed(Self { about_users, ..self })?;
        }
        Ok(found)
    }
}
