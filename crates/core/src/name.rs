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

/// Folds a name for comparison without case.
///
/// Upper-casing first lets characters meet that share an upper-case form only (`ß` and `SS`, the
/// two small sigmas); all folding is done here, never in the database, so that both sides agree.
#[must_use]
pub fn fold(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_are_one() {
        assert_eq!(Name::parse("Änna"), Name::parse(" äNNA "));
        assert_ne!(Name::parse("anna"), Name::parse("ann"));
        assert_eq!(Name::parse("ΣΟΦΟΣ"), Name::parse("σοφος"));
    }

    #[test]
    fn empty_and_unprintable_names_are_refused() {
        assert_eq!(Name::parse("  "), None);
        assert_eq!(Name::parse("a\u{7}b"), None);
    }
}
