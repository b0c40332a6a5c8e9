//! The fields of a form or a query.

use url::form_urlencoded;

/// Names and values, in the order in which they were sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`. HTML text areas send each line end as two
    /// characters; this turns them into one.
    pub(super) fn parse(form: &[u8]) -> Self {
        let pair = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            (name.into_owned(), value.replace("\r\n", "\n"))
        };
        Self(form_urlencoded::parse(form).map(pair).collect())
    }

    /// The value of a field, trimmed; an empty text when the field is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The value of a field as it was sent; an empty text when the field is absent.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.all(name).next_back().unwrap_or_default()
    }

    /// All values of a field that may be repeated.
    pub(super) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field is present: a box is checked, or a button was pressed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

/// Makes a path with a query of those parameters that are not empty.
pub(super) fn path(base: &str, parameters: &[(&str, &str)]) -> String {
    let said: Vec<_> = parameters.iter().filter(|(_, value)| !value.is_empty()).collect();
    if said.is_empty() {
        return base.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    format!("{base}?{query}")
}
