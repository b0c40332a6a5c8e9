//! Aligned tables for people.

use crate::output::plain;

/// The widest that a cell gets before it is cut, except in the last column.
const WIDEST: usize = 60;

/// Renders rows under headings, in columns as wide as they need to be.
pub(crate) fn render(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let headings = headings.iter().map(|text| (*text).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(rows).map(cells).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// Renders names and values one below the other, for one thing with many properties.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let line = |(name, value): &(&str, String)| {
        format!("{name:width$}  {}\n", plain(value)).trim_end().to_owned() + "\n"
    };
    facts.iter().map(line).collect()
}

fn cells(row: Vec<String>) -> Vec<String> {
    let last = row.len().saturating_sub(1);
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

fn line(row: &[String], widths: &[usize]) -> String {
    let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    let line = padded.collect::<Vec<_>>().join("  ");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_long_cells_cut() {
        let rows = [vec!["1".to_owned(), "ü".to_owned()], vec!["x".repeat(70), "y".repeat(70)]];
        let text = render(&["ID", "NAME"], rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("NAME"), Some(62));
        assert_eq!(lines[1], format!("1{}ü", " ".repeat(61)));
        assert_eq!(lines[2], format!("{}…  {}", "x".repeat(59), "y".repeat(70)));
    }

    #[test]
    fn facts_are_aligned() {
        let text = facts(&[("id", "1".to_owned()), ("name", "a\u{1b}b".to_owned())]);
        assert_eq!(text, "id    1\nname  a\\u{1b}b\n");
    }
}
