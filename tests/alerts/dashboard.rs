//! The shipped dashboard: its panels, their queries, and the legends of their lines.

use serde_json::Value;

use super::files;

/// A panel of the dashboard: its question and its queries.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) queries: Vec<Query>,
}

/// One query of a panel.
pub(crate) struct Query {
    /// The expression as Prometheus gets it, without Grafana's variables.
    pub(crate) expression: String,
    legend: String,
}

impl Query {
    /// The legend and the value that the panel shows for a sample.
    pub(crate) fn line(&self, sample: &Value) -> (String, f64) {
        let labels = sample["metric"].as_object().unwrap();
        let name = labels.iter().fold(self.legend.clone(), |name, (label, value)| {
            name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap())
        });
        (name, sample["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Whether it returns no data while no alert is firing.
    pub(crate) fn is_empty_when_well(&self) -> bool {
        self.expression.starts_with("ALERTS")
    }
}

/// The panels that have queries, without the rows that group them.
pub(crate) fn panels() -> Vec<Panel> {
    let dashboard: Value = serde_json::from_str(&files::dashboard()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row").map(panel).collect()
}

fn panel(panel: &Value) -> Panel {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let query = |target: &Value| Query {
        // Grafana's values for a dashboard that shows some hours.
        expression: text(&target["expr"]).replace("$__rate_interval", "1m"),
        legend: text(&target["legendFormat"]),
    };
    let queries = panel["targets"].as_array().unwrap().iter().map(query).collect();
    Panel { title: text(&panel["title"]), queries }
}
