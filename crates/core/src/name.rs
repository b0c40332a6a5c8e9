//! Names of users and roles, which are compared without case.

use std::fmt;

/// A user's or role's name: shown as written, compared without case.
#[derive(Debug, Clone)]
pub struct Name {
    shown: String,
    key: String,
}

impl Name {
    /// Takes a name as written; `None` when it is empty, longer than 256 characters or holds
    /// control characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shown = text.trim();
        let fits = !shown.is_empty() && shown.chars().count() <= 256;
        (fits && !shown.chars().any(char::is_control))
            .then(|| Self { shown: shown.to_owned(), key: fold(shown) })
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The form that is compared and stored in `*_key` columns.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Folds a name for comparison without case, as .NET's `OrdinalIgnoreCase` compares: two names are
/// one when they have the same characters, one by one, by their simple upper-case mappings, and a
/// character beyond ASCII never equals one within it. So `Änne` is `ÄNNE`, but `strauß` is not
/// `strauss`, and neither `ı` nor `İ` is `i`.
///
/// Characters beyond the Basic Multilingual Plane are mapped too, as .NET does since version 8.
///
/// The result is what the database stores (`*_key`) and compares. It is written in lower case where
/// that loses nothing, and must stay what it is for every name: a change here needs a step of
/// `fanfare migrate` that folds again what is stored.
#[must_use]
pub fn fold(name: &str) -> String {
    name.chars().map(fold_char).collect()
}

/// The one character that stands for all that are the same without case.
fn fold_char(c: char) -> char {
    let upper = upper(c);
    let lower = single(upper.to_lowercase());
    // Some upper-case characters share a lower-case one without being the same: Å (a letter) and
    // Å (the unit). Those that don't come back from it stand for themselves.
    lower.filter(|lower| self::upper(*lower) == upper).unwrap_or(upper)
}

/// The simple upper-case mapping, which never leads from beyond ASCII into it.
fn upper(c: char) -> char {
    let mapped = single(c.to_uppercase()).or_else(|| iota_upper(c));
    mapped.filter(|mapped| mapped.is_ascii() == c.is_ascii()).unwrap_or(c)
}

/// The simple upper-case mappings of characters whose full mappings have several characters: Greek
/// vowels with an iota below (field 12 of `UnicodeData.txt`, Unicode 16.0). All others of that kind,
/// such as `ß` and the ligatures, have none.
fn iota_upper(c: char) -> Option<char> {
    let distance = match c {
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => 8,
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => 9,
        _ => return None,
    };
    char::from_u32(u32::from(c) + distance)
}

fn single(mut mapping: impl Iterator<Item = char>) -> Option<char> {
    mapping.next().filter(|_| mapping.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_differ_in_case_are_one() {
        for (one, other) in [
            ("Anna", "anna"),
            ("Änna", " äNNA "),
            ("ÄNNE", "änne"),
            ("ΣΟΦΟΣ", "σοφος"),
            ("σοφοσ", "σοφος"),
            ("\u{1FB3}", "\u{1FBC}"),
            ("\u{1F80}", "\u{1F88}"),
            ("ǆ", "ǅ"),
            ("И\u{10428}", "и\u{10400}"),
        ] {
            assert_eq!(Name::parse(one), Name::parse(other), "{one} {other}");
        }
        assert_ne!(Name::parse("anna"), Name::parse("ann"));
    }

    #[test]
    fn names_that_differ_in_more_than_case_are_two() {
        for (one, other) in [
            ("strauß", "strauss"),
            ("STRAUẞ", "strauß"),
            ("admın", "admin"),
            ("ADMİN", "admin"),
            ("ſystem", "system"),
            ("\u{212A}arl", "karl"),
            ("\u{212B}", "å"),
            ("oﬃce", "office"),
            ("ŉ", "ʼn"),
            ("é", "e\u{301}"),
        ] {
            assert_ne!(Name::parse(one), Name::parse(other), "{one} {other}");
        }
    }

    #[test]
    fn a_stored_name_is_in_lower_case_and_stays_what_it_is() {
        assert_eq!(fold("System Administrator"), "system administrator");
        assert_eq!(fold("ÄNNE Σ"), "änne σ");
    }

    #[test]
    fn what_is_folded_is_the_same_exactly_when_the_upper_case_is() {
        let mut of_fold = std::collections::HashMap::new();
        for c in ('\0'..=char::MAX).filter(|c| c.is_alphabetic() || c.is_ascii()) {
            let (folded, upper) = (fold_char(c), upper(c));
            assert_eq!(*of_fold.entry(folded).or_insert(upper), upper, "{c:?}");
            assert_eq!(self::upper(folded), upper, "{c:?}");
            assert_eq!(c.is_ascii(), folded.is_ascii(), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(name in ".*") {
            prop_assert_eq!(fold(&fold(&name)), fold(&name));
        }
    }

    #[test]
    fn empty_and_unprintable_names_are_refused() {
        assert_eq!(Name::parse("  "), None);
        assert_eq!(Name::parse("a\u{7}b"), None);
    }
}
