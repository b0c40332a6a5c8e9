//! The report of a run, as a part of a Markdown page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Arguments;
use crate::judge::{Evidence, Findings};
use crate::settle::Settled;
use crate::world::{OWNERS, WEBHOOKS};

/// What is between these lines is replaced; the rest of the page is written by hand.
const BEGIN: &str = "<!-- The report of a run, as cargo chaos wrote it. -->";
const END: &str = "<!-- The end of the report. -->";

/// How many failures of a kind are listed.
const SHOWN: usize = 10;

/// A run that is over.
pub(crate) struct Report<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) evidence: &'a Evidence,
    pub(crate) findings: &'a Findings,
    pub(crate) settled: &'a Settled,
}

impl Report<'_> {
    /// Writes the report into a page, in the place of an earlier one.
    ///
    /// # Errors
    ///
    /// If the page can't be written.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let page = fs::read_to_string(file).unwrap_or_default();
        let page = replace(&page, &self.page());
        fs::write(file, page).with_context(|| format!("writing {}", file.display()))
    }

    /// The report as Markdown.
    pub(crate) fn page(&self) -> String {
        let mut page = self.summary();
        let faults = count(self.evidence.incidents.iter().map(|it| it.fault.kind().to_owned()));
        page += &table("Faults", "fault", &faults);
        page += &table("Deliveries, as the ledger has them", "outcome", &self.findings.outcomes);
        let duplicates = self.findings.duplicates.iter();
        let duplicates = duplicates.map(|(part, count)| (part.words().to_owned(), *count));
        page +=
            &table("POSTs that came twice, by what explains them", "while", &duplicates.collect());
        page + &self.failures()
    }

    fn summary(&self) -> String {
        let Self { arguments, evidence, findings, settled } = self;
        let verdict = if findings.passed() { "passed" } else { "**failed**" };
        let duplicates: usize = findings.duplicates.values().sum();
        let rows = [
            ("verdict", verdict.to_owned()),
            ("seed", arguments.seed.to_string()),
            ("minutes", arguments.minutes.to_string()),
            ("faults", evidence.incidents.len().to_string()),
            ("faults that were not possible at their time", evidence.skipped.to_string()),
            ("owners, webhooks", format!("{OWNERS}, {WEBHOOKS}")),
            ("events that the broker confirmed", evidence.published.events.len().to_string()),
            ("batches among them", evidence.published.batches.to_string()),
            ("changes of access", (evidence.published.directory.revision() - 1).to_string()),
            ("deliveries", findings.outcomes.values().sum::<usize>().to_string()),
            ("POSTs that arrived", evidence.posts.len().to_string()),
            ("POSTs that came twice", duplicates.to_string()),
            ("dead letters that came twice", settled.repeated_letters.to_string()),
            ("from the last fault until nothing was owed", seconds(settled)),
        ];
        let mut page = "| | |\n|---|---|\n".to_owned();
        for (name, value) in rows {
            // Writing to a string can't fail.
            let _ = writeln!(page, "| {name} | {value} |");
        }
        page
    }

    fn failures(&self) -> String {
        let mut page = String::new();
        for (kind, failures) in &self.findings.failures {
            let _ = writeln!(page, "\n**Failed: {kind}** ({})\n", failures.len());
            for failure in failures.iter().take(SHOWN) {
                let _ = writeln!(page, "- {}", failure.lines().next().unwrap_or_default());
            }
        }
        page
    }
}

fn seconds(settled: &Settled) -> String {
    format!("{:.0} s", settled.took.as_secs_f32())
}

fn count(kinds: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    kinds.for_each(|kind| *counts.entry(kind).or_default() += 1);
    counts
}

fn table(title: &str, column: &str, rows: &BTreeMap<String, usize>) -> String {
    if rows.is_empty() {
        return format!("\n{title}: none.\n");
    }
    let mut table = format!("\n{title}:\n\n| {column} | number |\n|---|---|\n");
    for (name, number) in rows {
        let _ = writeln!(table, "| {name} | {number} |");
    }
    table
}

/// Puts a report between the markers of a page, or behind a page without them.
fn replace(page: &str, report: &str) -> String {
    let (before, after) = match page.split_once(BEGIN) {
        Some((before, rest)) => {
            (before.to_owned(), rest.split_once(END).map_or("", |(_, after)| after))
        }
        None if page.is_empty() => ("# A run of chaos\n\n".to_owned(), "\n"),
        None => (format!("{}\n\n", page.trim_end()), "\n"),
    };
    format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", report.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn introduction_and_end_of_a_page_stay() {
        let page = format!("# Title\n\nBy hand.\n\n{BEGIN}\n\nold\n\n{END}\n\nBelow.\n");
        let replaced = replace(&page, "new\n");
        assert_eq!(replaced, format!("# Title\n\nBy hand.\n\n{BEGIN}\n\nnew\n\n{END}\n\nBelow.\n"));
        assert_eq!(replace(&replaced, "new\n"), replaced);
    }

    #[test]
    fn page_without_markers_gets_them() {
        assert_eq!(replace("# Title\n", "new"), format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n"));
        assert_eq!(replace("", "new"), format!("# A run of chaos\n\n{BEGIN}\n\nnew\n\n{END}\n"));
    }
}
