//! A Prometheus that scrapes processes and evaluates the shipped rules.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use fanfare_testkit::prometheus::Prometheus;
use fanfare_testkit::wait::eventually;

use super::dashboard::{self, Panel};
use super::{EVERY, files};
use crate::world::{SOON, World};

/// A process and the address at which it is scraped.
pub(crate) struct Target {
    pub(crate) process: Process,
    role: &'static str,
    address: SocketAddr,
}

impl Target {
    /// Starts a process of a role and waits until it works.
    pub(crate) async fn start(world: &World, role: &'static str) -> Self {
        let process = world.start(role).await;
        let line = process.wait_for_line("/readyz on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { process, role, address }
    }
}

/// A Prometheus and the dashboard's panels.
pub(crate) struct Monitoring {
    prometheus: Prometheus,
    panels: Vec<Panel>,
}

impl Monitoring {
    /// Starts a Prometheus that scrapes these targets.
    ///
    /// The rules are those of the file that is shipped, without its lines with `for:`, so that an
    /// alert which would wait for minutes is raised at once.
    pub(crate) fn of(targets: &[&Target]) -> Self {
        let rules: String = files::alerts()
            .lines()
            .filter(|line| !line.trim_start().starts_with("for:"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let every = format!("{}ms", EVERY.as_millis());
        let mut config = format!(
            "global: {{ scrape_interval: {every}, scrape_timeout: {every}, \
             evaluation_interval: {every} }}\n\
             rule_files: [alerts.yml]\nscrape_configs:\n"
        );
        for Target { role, address, .. } in targets {
            writeln!(
                config,
                "- {{ job_name: fanfare-{role}, static_configs: [{{ targets: ['{address}'] }}] }}"
            )
            .unwrap();
        }
        let start = || Prometheus::start(&config, &[("alerts.yml", &rules)]);
        let prometheus = tokio::task::block_in_place(start).unwrap();
        Self { prometheus, panels: dashboard::panels() }
    }

    /// Waits until exactly these alerts are firing.
    pub(crate) async fn raises(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        eventually(&format!("these alerts are firing: {expected:?}"), SOON, async || {
            // Without any sample so far, an empty set of alerts would mean nothing.
            let seen = self.prometheus.query("count(up)").await.unwrap();
            let alerts = self.prometheus.alerts().await.unwrap();
            let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
            let firing: BTreeSet<String> = firing
                .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
                .collect();
            if firing == expected && !seen.is_empty() { Ok(()) } else { Err(firing) }
        })
        .await;
    }

    /// Waits until the line of a panel with this legend has a value that `is_right` accepts.
    pub(crate) async fn shows(&self, title: &str, legend: &str, is_right: fn(f64) -> bool) {
        let panel = self.panels.iter().find(|panel| panel.title == title).unwrap();
        eventually(&format!("{legend:?} of {title:?} is right"), SOON, async || {
            let mut lines = Vec::new();
            for query in &panel.queries {
                let samples = self.prometheus.query(&query.expression).await.unwrap();
                lines.extend(samples.iter().map(|sample| query.line(sample)));
            }
            let found = lines.iter().any(|(name, value)| name == legend && is_right(*value));
            if found { Ok(()) } else { Err(lines) }
        })
        .await;
    }

    /// Waits until every query of the dashboard returns data, except those that are empty when
    /// everything works.
    pub(crate) async fn answers_every_question(&self) {
        for panel in &self.panels {
            for query in panel.queries.iter().filter(|query| !query.is_empty_when_well()) {
                let what = format!("{} returns data: {}", panel.title, query.expression);
                eventually(&what, SOON, async || {
                    !self.prometheus.query(&query.expression).await.unwrap().is_empty()
                })
                .await;
            }
        }
    }
}
