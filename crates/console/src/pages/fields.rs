//! The fields of a form, or of a query.

use url::form_urlencoded;

/// Names and values in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`. Line ends are those of a text area in HTML, two
    /// characters, of which one is taken away.
    pub(super) fn parse(form: &[u8]) -> Self {
        let pair = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            (name.into_owned(), value.replace("\r\n", "\n"))
        };
        Self(form_urlencoded::parse(form).map(pair).collect())
    }

    /// The value of a field, trimmed; nothing when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The value of a field as it came.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.all(name).next_back().unwrap_or_default()
    }

    /// All values of a field that may come more than once.
    pub(super) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field is there: a box that is checked, a button that was pressed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

/// A path with a query of those of these parameters that say anything.
pub(super) fn path(base: &str, parameters: &[(&str, &str)]) -> String {
    let said: Vec<_> = parameters.iter().filter(|(_, value)| !value.is_empty()).collect();
    if said.is_empty() {
        return base.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    format!("{base}?{query}")
}
