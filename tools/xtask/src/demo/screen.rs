//! What the demo shows: a table that is redrawn in place on a terminal, and plain lines elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Result;

use super::ledger::{Ledger, Registered, Tally};

const HEADINGS: [&str; 7] =
    ["OWNER", "FILTERS", "RECEIVER", "DELIVERED", "RETRYING", "DEAD", "WITHHELD"];

/// The columns from this one on hold numbers.
const FIRST_NUMBER: usize = 3;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// A part of a line: its text, and its style where there are colours.
type Span = (String, &'static str);

/// Where the table is drawn.
pub(crate) struct Screen {
    /// Whether the table can be redrawn in place.
    pub(crate) is_live: bool,
    has_colours: bool,
    /// The lines that the next drawing replaces.
    height: usize,
    /// What was drawn last, to find out whether it has changed.
    last: Vec<Vec<Span>>,
}

impl Screen {
    /// Finds out whether stdout is a terminal.
    pub(crate) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_live = io::stdout().is_terminal() && !is_dumb;
        Self {
            is_live,
            has_colours: is_live && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            height: 0,
            last: Vec::new(),
        }
    }

    /// Redraws the table in place, with other lines below it. Without a terminal, does nothing.
    pub(crate) fn draw(&mut self, table: Vec<Vec<Span>>, below: &str) -> io::Result<()> {
        if !self.is_live {
            self.last = table;
            return Ok(());
        }
        let (rows, columns) = size();
        let mut lines = table.clone();
        lines.push(Vec::new());
        lines.extend(below.lines().map(|line| vec![(line.to_owned(), "")]));
        // The cursor can't go back to what has left the screen.
        let hidden = lines.len().saturating_sub(rows.saturating_sub(1));
        let mut text = String::new();
        if self.height > 0 {
            // Writing to a string can't fail.
            let _ = write!(text, "\x1b[{}A\r", self.height);
        }
        for line in lines.iter().skip(hidden) {
            text.push_str(&self.line(line, columns));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.height = lines.len() - hidden;
        self.last = table;
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Leaves the table on the screen, so that the next output comes below it. Without a terminal,
    /// the table is printed now.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        self.height = 0;
        let table = std::mem::take(&mut self.last);
        if self.is_live || table.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        for line in &table {
            writeln!(out, "{}", self.line(line, usize::MAX))?;
        }
        out.flush()
    }

    fn line(&self, spans: &[Span], columns: usize) -> String {
        let mut left = columns;
        let mut text = String::new();
        for (span, style) in spans {
            // A line that wraps would take one more line than the cursor goes back.
            let span: String = span.chars().take(left).collect();
            left -= span.chars().count();
            if self.has_colours && !style.is_empty() {
                let _ = write!(text, "\x1b[{style}m{span}\x1b[0m");
            } else {
                text.push_str(&span);
            }
        }
        text.trim_end().to_owned()
    }
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_row.into(), size.ws_col.into()),
        // The usual size, for a terminal that does not say its own.
        _ => (24, 80),
    }
}

/// The table: two lines for each webhook. The second one says why events were withheld.
pub(crate) fn table(ledger: &Ledger, all: &[Registered]) -> Result<Vec<Vec<Span>>> {
    let mut rows = Vec::new();
    for registered in all {
        let tally = ledger.tally(registered)?;
        rows.push((cells(registered, &tally), reasons(&tally)));
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells[column].0.chars().count());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let mut lines = vec![aligned(HEADINGS.map(|heading| (heading.to_owned(), BOLD)), &widths)];
    for (cells, reasons) in rows {
        lines.push(aligned(cells, &widths));
        if !reasons.is_empty() {
            lines.push(vec![(format!("    {reasons}"), DIM)]);
        }
    }
    Ok(lines)
}

fn cells(registered: &Registered, tally: &Tally) -> [Span; HEADINGS.len()] {
    let number = |count: usize, style: &'static str| {
        let style = if count == 0 { DIM } else { style };
        (count.to_string(), style)
    };
    [
        (registered.hook.owner.to_owned(), ""),
        (registered.hook.asks(), ""),
        (registered.hook.receiver.name().to_owned(), ""),
        number(tally.delivered, GREEN),
        number(tally.retrying, YELLOW),
        number(tally.dead, RED),
        number(tally.withheld.values().sum(), ""),
    ]
}

fn reasons(tally: &Tally) -> String {
    let mut reasons = Vec::new();
    if tally.dropped > 0 {
        reasons.push(format!("{} dropped between attempts", tally.dropped));
    }
    if !tally.withheld.is_empty() {
        let why = tally.withheld.iter().map(|(why, count)| match why {
            Some(why) => format!("{why} ({count})"),
            None => format!("changed by hand ({count})"),
        });
        reasons.push(format!("withheld: {}", why.collect::<Vec<_>>().join(", ")));
    }
    reasons.join("; ")
}

fn aligned(cells: [Span; HEADINGS.len()], widths: &[usize; HEADINGS.len()]) -> Vec<Span> {
    let pad = |((column, (text, style)), &width): ((usize, Span), &usize)| {
        let gap = if column == 0 { "" } else { "  " };
        let text = if column < FIRST_NUMBER {
            format!("{gap}{text:width$}")
        } else {
            format!("{gap}{text:>width$}")
        };
        (text, style)
    };
    cells.into_iter().enumerate().zip(widths).map(pad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::sample::{HOOKS, Sample};

    fn screen(has_colours: bool) -> Screen {
        Screen { is_live: true, has_colours, height: 0, last: Vec::new() }
    }

    #[test]
    fn the_table_fits_a_terminal_of_80_by_24() {
        let registered: Vec<Registered> =
            HOOKS.iter().map(|hook| Registered { hook, id: hook.asks() }).collect();
        let ledger = Ledger::new(Sample::load().unwrap());
        let table = table(&ledger, &registered).unwrap();
        let screen = screen(false);
        for line in &table {
            let whole = screen.line(line, usize::MAX);
            assert!(whole.chars().count() <= 80, "{whole:?}");
        }
        // The headings, two lines for each webhook, and an empty line and two more below.
        assert!(1 + 2 * HOOKS.len() + 3 < 24);
    }

    #[test]
    fn a_line_is_cut_before_it_wraps_and_colours_take_no_room() {
        let line = [("abc".to_owned(), RED), ("def".to_owned(), "")];
        assert_eq!(screen(false).line(&line, 5), "abcde");
        assert_eq!(screen(true).line(&line, 5), "\x1b[31mabc\x1b[0mde");
    }

    #[test]
    fn reasons_are_counted() {
        use crate::demo::sample::Withheld;
        let mut tally = Tally::default();
        assert_eq!(reasons(&tally), "");
        tally.withheld.insert(Some(Withheld::MayNotRead), 6);
        tally.withheld.insert(None, 1);
        assert_eq!(reasons(&tally), "withheld: changed by hand (1), owner may not read (6)");
    }
}
