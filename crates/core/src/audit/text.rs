//! Texts and objects of bounded size, in a form that the database can store.

use serde_json::{Map, Value};

/// The longest text, in characters. A registration may have a description of any length, and an
/// entry need not repeat it.
const LONGEST: usize = 1_000;

/// The most members of an object that a user fills.
const MOST: usize = 100;

/// A text of at most [`LONGEST`] characters. PostgreSQL can store no U+0000, so another character
/// takes its place.
pub(super) fn text(text: &str) -> Value {
    Value::from(bounded(text))
}

pub(super) fn bounded(text: &str) -> String {
    let clean = |c: char| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c };
    let mut short: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// An object of at most [`MOST`] members, and one that says how many more there were.
pub(super) fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> Value {
    let mut map = Map::new();
    let mut left_out = 0_usize;
    for (name, value) in members {
        if map.len() < MOST {
            map.insert(bounded(name), text(&value));
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        map.insert("…".to_owned(), Value::from(format!("{left_out} more")));
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_objects_are_bounded_and_can_be_stored() {
        assert_eq!(bounded("a\0b"), "a\u{fffd}b");
        assert_eq!(bounded(&"ä".repeat(LONGEST)).chars().count(), LONGEST);
        assert!(bounded(&"ä".repeat(LONGEST + 1)).ends_with("ä…"));
        let names: Vec<String> = (0..MOST + 3).map(|n| n.to_string()).collect();
        let many = object(names.iter().map(|name| (name.as_str(), String::new())));
        assert_eq!(many.as_object().unwrap().len(), MOST + 1);
        assert_eq!(many["…"], "3 more");
    }
}
