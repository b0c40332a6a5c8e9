//! The files themselves: every metric that they name exists, and no text is missing.

use std::collections::BTreeSet;
use std::fs;

use fanfare_testkit::prometheus::{Prometheus, promtool};

use super::dashboard;
use crate::python_env::root;

/// The text of the file of alert rules.
pub(crate) fn alerts() -> String {
    read("deploy/prometheus/alerts.yml")
}

/// The text of the dashboard's file.
pub(crate) fn dashboard() -> String {
    read("deploy/grafana/dashboards/fanfare.json")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names of all time series that processes export, from the table that a test compares with
/// the code.
fn known_series() -> BTreeSet<String> {
    let documents = read("docs/metrics.md");
    let rows = documents.lines().filter_map(|line| line.strip_prefix("| `fanfare_"));
    let mut known = BTreeSet::new();
    for row in rows {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("fanfare_{}", columns[0].trim_end_matches('`'));
        if columns[2] == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            known.insert(name);
        }
    }
    known
}

/// Fanfare's series in an expression.
fn series_of(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("fanfare_")).collect()
}

#[test]
fn promtool_agrees_with_the_rules_and_their_tests() {
    let folder = root().join("deploy/prometheus");
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        promtool(&arguments, &folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_has_a_remedy() {
    let config = "rule_files: [alerts.yml]\n";
    let start = || Prometheus::start(config, &[("alerts.yml", &alerts())]);
    let prometheus = tokio::task::block_in_place(start).unwrap();
    let rules = prometheus.rules().await.unwrap();
    assert!(!rules.is_empty());
    let (known, documents) = (known_series(), read("docs/monitoring.md"));
    let tests = read("deploy/prometheus/alerts_test.yml");
    for rule in rules {
        let name = rule["name"].as_str().unwrap();
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        let says = |annotation: &str| rule["annotations"][annotation].as_str().unwrap().to_owned();
        assert!(says("summary").ends_with('.'), "{name}: the summary is no sentence");
        assert!(says("description").ends_with('.'), "{name}: the description is no sentence");
        let anchor = format!("docs/monitoring.md#{}", name.to_lowercase());
        assert_eq!(says("runbook_url"), anchor, "{name}");
        assert!(documents.contains(&format!("\n### {name}\n")), "docs/monitoring.md lacks {name}");
        assert!(tests.contains(&format!("\"{name}\"")), "alerts_test.yml lacks {name}");
        for series in series_of(rule["query"].as_str().unwrap()) {
            assert!(known.contains(series), "{name} uses {series}, which no process exports");
        }
    }
    let headings = documents.lines().filter_map(|line| line.strip_prefix("### Fanfare"));
    for heading in headings {
        let rule = format!("- alert: Fanfare{heading}\n");
        assert!(
            alerts().contains(&rule),
            "no alert is called Fanfare{heading}, as in docs/monitoring.md"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_a_query_that_returns_data() {
    let start = || Prometheus::start("", &[]);
    let prometheus = tokio::task::block_in_place(start).unwrap();
    let (known, mut asked) = (known_series(), BTreeSet::new());
    for panel in dashboard::panels() {
        assert!(panel.title.ends_with('?'), "{} is no question", panel.title);
        assert!(!panel.queries.is_empty(), "{} has no query", panel.title);
        for query in panel.queries {
            prometheus.query(&query.expression).await.unwrap();
            for series in series_of(&query.expression) {
                assert!(known.contains(series), "{}: no process exports {series}", panel.title);
                asked.insert(series.to_owned());
            }
        }
    }
    // Each metric is on a panel; of a histogram one part is enough.
    let base = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned()
    };
    let (known, asked): (BTreeSet<String>, BTreeSet<String>) =
        (known.iter().map(|it| base(it)).collect(), asked.iter().map(|it| base(it)).collect());
    let unseen: Vec<&String> = known.difference(&asked).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}
