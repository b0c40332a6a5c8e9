//! The report: figures, each the median of its rounds, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use fanfare_testkit::build::workspace;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::number;

/// The part whose best figure is the limit that rates are compared with.
pub(crate) const LIMIT: &str = "limit";

/// The fact about the machine that differs for each run. Figures of other runs keep their own.
pub(crate) const TAKEN_AT: &str = "taken at";

/// The columns of the table with numbers.
const NUMBERS: [usize; 4] = [2, 3, 4, 6];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The part that it belongs to.
    pub(crate) part: String,
    /// Its name, unique within the part.
    pub(crate) name: String,
    /// Its unit; the unit of a rate ends in `/s`.
    pub(crate) unit: String,
    /// When its run began.
    #[serde(rename = "takenAt")]
    pub(crate) taken_at: String,
    /// One value a round.
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    /// The middle value, or the mean of the two middle values.
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }

    pub(crate) fn min(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    machine: BTreeMap<String, String>,
    is_smoke: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(machine: BTreeMap<String, String>, is_smoke: bool) -> Self {
        Self { machine, is_smoke, figures: Vec::new() }
    }

    /// Adds one round's value to a figure.
    pub(crate) fn add(&mut self, part: &'static str, name: &str, unit: &'static str, value: f64) {
        eprintln!("           {part}: {name}: {} {unit}", shown(value));
        let found = self.figures.iter_mut().find(|it| it.part == part && it.name == name);
        if let Some(figure) = found {
            figure.rounds.push(value);
            return;
        }
        let taken_at = self.machine.get(TAKEN_AT).cloned().unwrap_or_default();
        let (part, name, unit) = (part.to_owned(), name.to_owned(), unit.to_owned());
        self.figures.push(Figure { part, name, unit, taken_at, rounds: vec![value] });
    }

    /// The median of a figure, if it was measured.
    pub(crate) fn median(&self, part: &str, name: &str) -> Option<f64> {
        self.figures.iter().find(|it| it.part == part && it.name == name).map(Figure::median)
    }

    /// The most POSTs a second that the bare client made, if it was measured.
    pub(crate) fn limit(&self) -> Option<f64> {
        let rates = self.figures.iter().filter(|it| it.part == LIMIT && it.unit.ends_with("/s"));
        rates.map(Figure::median).max_by(f64::total_cmp)
    }

    /// A rate as a part of the limit.
    fn ratio(&self, figure: &Figure) -> Option<f64> {
        let limit = self.limit().filter(|limit| *limit > 0.0)?;
        figure.unit.ends_with("/s").then(|| figure.median() / limit)
    }

    /// All figures as a table, for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "figure", "median", "min", "max", "unit", "of limit"]);
        let mut part = "";
        for figure in &self.figures {
            let first = if figure.part == part { "" } else { &figure.part };
            part = &figure.part;
            table.add_row([
                first.to_owned(),
                figure.name.clone(),
                shown(figure.median()),
                shown(figure.min()),
                shown(figure.max()),
                figure.unit.clone(),
                self.ratio(figure).map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
            ]);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if NUMBERS.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name}: {value}");
        }
        if self.is_smoke {
            text.push_str("This was a smoke run: its figures say nothing about speed.\n");
        }
        text + "\n" + &table.trim_fmt() + "\n"
    }

    /// All figures as JSON, for programs.
    fn json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "part": figure.part, "name": figure.name, "unit": figure.unit,
                "takenAt": figure.taken_at,
                "median": figure.median(), "min": figure.min(), "max": figure.max(),
                "rounds": figure.rounds, "ofLimit": self.ratio(figure),
            })
        };
        json!({
            "machine": self.machine,
            "smoke": self.is_smoke,
            "limit": self.limit(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
        })
    }

    /// Adds the figures of parts that were not measured, from an earlier report of the same
    /// machine, and sorts all by the order of `parts`. Each figure has the time of its run.
    pub(crate) fn complete(&mut self, earlier: &Path, parts: &[String]) -> Result<()> {
        #[derive(Deserialize)]
        struct Earlier {
            machine: BTreeMap<String, String>,
            figures: Vec<Figure>,
        }
        let file = earlier.join("report.json");
        if !file.exists() {
            return Ok(());
        }
        let doing = || format!("reading {}", file.display());
        let text = fs::read_to_string(&file).with_context(doing)?;
        let earlier: Earlier = serde_json::from_str(&text).with_context(doing)?;
        let same = |fact| self.machine.get(fact) == earlier.machine.get(fact);
        if ["cores", "cpu", "build"].into_iter().all(same) {
            let measured: BTreeSet<String> =
                self.figures.iter().map(|figure| figure.part.clone()).collect();
            let others = earlier.figures.into_iter();
            self.figures.extend(others.filter(|figure| !measured.contains(&figure.part)));
        }
        self.figures.sort_by_key(|figure| parts.iter().position(|part| *part == figure.part));
        Ok(())
    }

    /// The folder of the report. A smoke run has another one, so that it does not replace real
    /// figures.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = workspace().join("target/bench");
        if self.is_smoke { folder.join("smoke") } else { folder }
    }

    /// Writes `report.json`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let file = folder.join("report.json");
        let text = serde_json::to_string_pretty(&self.json())? + "\n";
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }
}

/// The middle value, or the mean of the two middle values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

/// Formats a number with about three significant digits.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => thousands(number::whole(value.round())),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_and_rates_are_compared_with_the_best_of_the_limit() {
        let mut report = on_two_cores("monday");
        for value in [1000.0, 3000.0, 2000.0] {
            report.add(LIMIT, "64 side by side", "POSTs/s", value);
            report.add("throughput", "fan-out 1", "deliveries/s", value / 4.0);
        }
        report.add(LIMIT, "128 side by side", "POSTs/s", 500.0);
        report.add("latency", "p99", "ms", 1.5);
        assert_eq!(report.limit(), Some(2000.0));
        let json = report.json();
        let figure = &json["figures"][1];
        assert_eq!((&figure["median"], &figure["ofLimit"]), (&json!(500.0), &json!(0.25)));
        assert_eq!((&figure["min"], &figure["max"]), (&json!(250.0), &json!(750.0)));
        assert_eq!(json["figures"][3]["ofLimit"], Value::Null);
        assert!(report.table().contains("2,000  1,000  3,000"), "{}", report.table());
    }

    #[test]
    fn parts_that_were_not_measured_keep_their_figures() {
        let folder = std::env::temp_dir().join(format!("report-{}", std::process::id()));
        let parts = [LIMIT, "latency", "memory"].map(str::to_owned);
        let mut monday = on_two_cores("monday");
        monday.complete(&folder, &parts).unwrap();
        for part in [LIMIT, "latency", "memory"] {
            monday.add(part, "figure", "ms", 1.0);
        }
        monday.write(&folder).unwrap();
        let mut tuesday = on_two_cores("tuesday");
        tuesday.add("latency", "figure", "ms", 2.0);
        tuesday.complete(&folder, &parts).unwrap();
        let json = tuesday.json();
        let taken = json["figures"].as_array().unwrap().iter();
        let taken: Vec<_> = taken.map(|it| (it["part"].as_str(), it["takenAt"].as_str())).collect();
        let at = |part, day| (Some(part), Some(day));
        let wanted = [at(LIMIT, "monday"), at("latency", "tuesday"), at("memory", "monday")];
        assert_eq!(taken, wanted);
        let mut elsewhere = Report::new(BTreeMap::from([("cores".into(), "8".into())]), false);
        elsewhere.complete(&folder, &parts).unwrap();
        assert_eq!(elsewhere.figures.len(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }

    fn on_two_cores(day: &str) -> Report {
        let facts = [("cores", "2"), (TAKEN_AT, day)];
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Report::new(BTreeMap::from(facts), false)
    }
}
