//! The query of the grid: its search, its order and its page. It is part of the grid's address.

use fanfare_core::name::Name;
use fanfare_store::webhooks::grid::{Column, GridFilter, Key, PageAnchor};

use super::WEBHOOKS;
use super::fields::{self, Fields};

/// The number of webhooks on a page.
const PAGE: i64 = 50;
/// The longest search text, in characters.
const SEARCH: usize = 200;

/// The columns by which the grid can be sorted, with their names in addresses.
const COLUMNS: [(&str, Column); 8] = [
    ("user", Column::User),
    ("url", Column::Url),
    ("filters", Column::Filters),
    ("description", Column::Description),
    ("paused", Column::Paused),
    ("created", Column::Created),
    ("last", Column::Last),
    ("rate", Column::Rate),
];

/// A query of the grid.
#[derive(Debug, Clone)]
pub(super) struct GridQuery {
    pub(super) search: String,
    pub(super) column: Column,
    pub(super) descending: bool,
    place: Option<PageAnchor>,
}

impl GridQuery {
    /// Reads a query. Values that are not valid are ignored.
    pub(super) fn parse(query: &Fields) -> Self {
        let named = |(name, _): &&(&str, Column)| *name == query.text("sort");
        let column = COLUMNS.iter().find(named).map(|(_, column)| *column);
        let place = |name, place: fn(Key) -> PageAnchor| {
            let (id, text) = query.raw(name).split_once('~')?;
            Some(place(Key { text: clean(text), id: id.parse().ok()? }))
        };
        Self {
            search: clean(query.text("q")).chars().take(SEARCH).collect(),
            column: column.unwrap_or(Column::Created),
            // The default order is the newest first.
            descending: if column.is_some() { query.text("order") == "desc" } else { true },
            place: place("after", PageAnchor::After)
                .or_else(|| place("before", PageAnchor::Before)),
        }
    }

    /// Makes the filter for the database. `None` selects the webhooks of all owners.
    pub(super) fn filter(&self, owner: Option<&Name>) -> GridFilter {
        GridFilter {
            owner: owner.cloned(),
            words: self.search.split_whitespace().map(str::to_owned).collect(),
            column: self.column,
            descending: self.descending,
            anchor: self.place.clone(),
            limit: PAGE,
        }
    }

    /// The address parameters of this order.
    pub(super) fn order(&self) -> (&'static str, &'static str) {
        (name(self.column), order(self.descending))
    }

    /// The path of the same search, sorted by a column.
    pub(super) fn sorted_by(&self, column: Column, descending: bool) -> String {
        let query =
            [("q", self.search.as_str()), ("sort", name(column)), ("order", order(descending))];
        fields::path(WEBHOOKS, &query)
    }

    /// The path of the page that begins after this webhook, or ends before it.
    pub(super) fn page(&self, place: &PageAnchor) -> String {
        let (name, Key { text, id }) = match place {
            PageAnchor::After(key) => ("after", key),
            PageAnchor::Before(key) => ("before", key),
        };
        let (sort, order) = self.order();
        let key = format!("{id}~{text}");
        let search = ("q", self.search.as_str());
        fields::path(WEBHOOKS, &[search, ("sort", sort), ("order", order), (name, &key)])
    }
}

/// Removes U+0000, which PostgreSQL can't store.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}

fn name(column: Column) -> &'static str {
    COLUMNS.iter().find(|(_, it)| *it == column).map_or("created", |(name, _)| name)
}

fn order(descending: bool) -> &'static str {
    if descending { "desc" } else { "asc" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::ids::WebhookId;
    use uuid::Uuid;

    fn asked(query: &str) -> GridQuery {
        GridQuery::parse(&Fields::parse(query.as_bytes()))
    }

    #[test]
    fn values_that_are_not_valid_are_ignored() {
        let asked = asked("sort=galaxies&order=desc&after=x~y&q=a%00b");
        let filter = asked.filter(None);
        assert_eq!((filter.column, filter.descending), (Column::Created, true));
        assert_eq!((filter.anchor, filter.words), (None, vec!["ab".to_owned()]));
    }

    #[test]
    fn a_page_reads_back_from_its_address() {
        let asked_for = asked("q=two+words&sort=rate&order=desc");
        for place in [PageAnchor::After, PageAnchor::Before] {
            let key = Key { text: "a~b & c".to_owned(), id: WebhookId(Uuid::from_u128(7)) };
            let path = asked_for.page(&place(key.clone()));
            let there = asked(path.split_once('?').unwrap().1).filter(None);
            assert_eq!(there.anchor, Some(place(key)));
            assert_eq!((there.column, there.descending), (Column::Rate, true));
            assert_eq!(there.words, ["two", "words"]);
        }
    }
}
