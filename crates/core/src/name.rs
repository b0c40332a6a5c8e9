//! Names of users and roles.

use std::fmt;

/// The name of a user or role: shown as written, compared without case.
#[derive(Debug, Clone)]
pub struct Name {
    shown: String,
    key: String,
}

impl Name {
    /// Accepts a name without control characters, of 1 to 256 characters after white space at its
    /// ends is removed.
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

    /// The folded name, which is compared, and stored in columns named `*_key`.
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
/// equal if their characters have the same simple upper-case mappings, one by one. A character
/// beyond ASCII never equals an ASCII character. So `Änne` equals `ÄNNE`, but `strauß` does not
/// equal `strauss`, and neither `ı` nor `İ` equals `i`.
///
/// Characters beyond the Basic Multilingual Plane are mapped too, as in .NET since version 8.
///
/// The database stores the result (`*_key`) and compares it. It is in lower case where that is
/// unambiguous. A change of this function for any name needs a step of `fanfare migrate` that folds
/// the stored names again.
#[must_use]
pub fn fold(name: &str) -> String {
    name.chars().map(fold_char).collect()
}

/// The one character that represents all characters that are equal to `c` without case.
fn fold_char(c: char) -> char {
    let upper = upper(c);
    let lower = single(upper.to_lowercase());
    // Some upper-case characters have the same lower-case one and are not equal: Å (a letter) and
    // Å (the unit). A character that is not the upper case of its lower case represents itself.
    lower.filter(|lower| self::upper(*lower) == upper).unwrap_or(upper)
}

/// The simple upper-case mapping, except that it never maps between ASCII and other characters.
fn upper(c: char) -> char {
    let mapped = single(c.to_uppercase()).or_else(|| iota_upper(c));
    mapped.filter(|mapped| mapped.is_ascii() == c.is_ascii()).unwrap_or(c)
}

/// The simple upper-case mappings of characters whose full mappings have several characters: Greek
/// vowels with an iota below (field 12 of `UnicodeData.txt`, Unicode 16.0). Other characters with
/// such full mappings, such as `ß` and the ligatures, have no simple mapping.
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
    fn names_that_differ_by_case_only_are_equal() {
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
    fn names_that_differ_by_more_than_case_are_not_equal() {
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
    fn a_folded_name_is_in_lower_case() {
        assert_eq!(fold("System Administrator"), "system administrator");
        assert_eq!(fold("ÄNNE Σ"), "änne σ");
    }

    #[test]
    fn two_characters_fold_to_the_same_only_if_their_upper_case_is_the_same() {
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
        fn folding_a_folded_name_changes_nothing(name in ".*") {
            prop_assert_eq!(fold(&fold(&name)), fold(&name));
        }
    }

    #[test]
    fn empty_and_unprintable_names_are_refused() {
        assert_eq!(Name::parse("  "), None);
        assert_eq!(Name::parse("a\u{7}b"), None);
    }
}
