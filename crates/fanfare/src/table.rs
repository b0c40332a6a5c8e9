//! Aligned tables for people.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use fanfare_core::outcome::State;

use crate::output::plain;

/// The width at which a cell is cut, in characters. The last column is never cut.
const WIDEST: usize = 60;

/// Renders rows under headings, in columns as wide as they need to be.
pub(crate) fn render<const N: usize>(
    headings: &[&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.set_header(headings).add_rows(rows.into_iter().map(cells));
    text(table)
}

/// Renders the properties of one thing, each on its own line with its name.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.add_rows(facts.iter().map(|(name, value)| [(*name).to_owned(), plain(value)]));
    text(table)
}

/// Renders a table in the same way for every terminal and for programs: without borders, colours,
/// wrapping, and trailing spaces.
fn text(mut table: Table) -> String {
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// The text of a value; a dash if there is none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A delivery's state, with its reason if it has one.
pub(crate) fn state(state: State, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{} ({reason})", state.name()),
        None => state.name().to_owned(),
    }
}

fn cells<const N: usize>(row: [String; N]) -> Vec<String> {
    let last = N.saturating_sub(1);
    let fit = |(index, text): (usize, String)| {
        let text = plain(&text);
        if index == last || text.chars().count() <= WIDEST {
            text
        } else {
            text.chars().take(WIDEST - 1).chain(['…']).collect()
        }
    };
    row.into_iter().enumerate().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_long_cells_are_cut() {
        let rows = [["1".to_owned(), "ü".to_owned()], ["x".repeat(70), "y".repeat(70)]];
        let text = render(&["ID", "NAME"], rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("NAME"), Some(62));
        assert_eq!(lines[1], format!("1{}ü", " ".repeat(61)));
        assert_eq!(lines[2], format!("{}…  {}", "x".repeat(59), "y".repeat(70)));
    }

    #[test]
    fn wide_characters_are_aligned() {
        let rows = [["東京", "x"], ["ab", "y"]].map(|row| row.map(str::to_owned));
        assert_eq!(render(&["NAME", "Z"], rows), "NAME  Z\n東京  x\nab    y\n");
    }

    #[test]
    fn table_without_rows_has_the_headings() {
        assert_eq!(render(&["A", "B"], []), "A  B\n");
    }

    #[test]
    fn state_has_its_reason_in_brackets() {
        assert_eq!(state(State::Dropped, Some("access-revoked")), "dropped (access-revoked)");
        assert_eq!(state(State::Delivered, None), "delivered");
    }

    #[test]
    fn facts_are_aligned() {
        let text = facts(&[("id", "1".to_owned()), ("name", "a\u{1b}b".to_owned())]);
        assert_eq!(text, "id    1\nname  a\\u{1b}b\n");
    }
}
