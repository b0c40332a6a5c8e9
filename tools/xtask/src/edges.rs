//! The layers: which package of the workspace may depend on which, as a table. Also which commands
//! may use a role: only the one that runs it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo;

const TESTKIT: &str = "fanfare-testkit";

/// The commands.
const COMMANDS: &str = "crates/fanfare/src/commands/";
/// The commands that run roles.
const RUNS_ROLES: &str = "crates/fanfare/src/commands/roles";
/// The commands that ask the report server, by the bridge's client of its API.
const ASK_REPORT_SERVER: [&str; 2] = [
    "crates/fanfare/src/commands/doctor/bridge.rs",
    "crates/fanfare/src/commands/webhooks/import/server.rs",
];
/// The libraries of the roles. The names are in two parts, so that this file does not contain them.
const ROLES: [&str; 4] = [
    concat!("fanfare", "_router"),
    concat!("fanfare", "_worker"),
    concat!("fanfare", "_console"),
    concat!("fanfare", "_bridge"),
];

/// Each package and those that it may use. No package uses one of its own layer or of a higher one.
const ALLOWED: [(&str, &[&str]); 24] = [
    (
        "fanfare",
        &[
            "fanfare-bridge",
            "fanfare-router",
            "fanfare-worker",
            "fanfare-console",
            "fanfare-app",
            "fanfare-http",
            "fanfare-letters",
            "fanfare-notices",
            "fanfare-store",
            "fanfare-broker",
            "fanfare-outbound",
            "fanfare-metrics",
            "fanfare-trace",
            "fanfare-failpoints",
            "fanfare-core",
        ],
    ),
    (
        "fanfare-notices",
        &[
            "fanfare-store",
            "fanfare-broker",
            "fanfare-outbound",
            "fanfare-failpoints",
            "fanfare-core",
        ],
    ),
    ("fanfare-letters", &["fanfare-store", "fanfare-broker", "fanfare-failpoints", "fanfare-core"]),
    (
        "fanfare-router",
        &[
            "fanfare-letters",
            "fanfare-notices",
            "fanfare-store",
            "fanfare-broker",
            "fanfare-metrics",
            "fanfare-trace",
            "fanfare-failpoints",
            "fanfare-core",
        ],
    ),
    (
        "fanfare-worker",
        &[
            "fanfare-letters",
            "fanfare-store",
            "fanfare-broker",
            "fanfare-outbound",
            "fanfare-metrics",
            "fanfare-trace",
            "fanfare-failpoints",
            "fanfare-core",
        ],
    ),
    (
        "fanfare-console",
        &[
            "fanfare-app",
            "fanfare-http",
            "fanfare-store",
            "fanfare-broker",
            "fanfare-outbound",
            "fanfare-metrics",
            "fanfare-core",
        ],
    ),
    (
        "fanfare-bridge",
        &[
            "fanfare-app",
            "fanfare-http",
            "fanfare-broker",
            "fanfare-outbound",
            "fanfare-metrics",
            "fanfare-core",
        ],
    ),
    (
        "fanfare-app",
        &["fanfare-letters", "fanfare-store", "fanfare-broker", "fanfare-outbound", "fanfare-core"],
    ),
    ("fanfare-store", &["fanfare-core", "fanfare-tls"]),
    ("fanfare-broker", &["fanfare-core", "fanfare-tls"]),
    ("fanfare-http", &[]),
    ("fanfare-outbound", &["fanfare-core"]),
    ("fanfare-metrics", &["fanfare-core"]),
    ("fanfare-failpoints", &["fanfare-core"]),
    ("fanfare-core", &[]),
    ("fanfare-tls", &[]),
    ("fanfare-trace", &["fanfare-core"]),
    (TESTKIT, &[]),
    ("fanfare-model", &["fanfare-failpoints"]),
    ("fanfare-end-to-end", &["fanfare-core", "fanfare-failpoints", "fanfare-model"]),
    ("fanfare-bench", &["fanfare-core", "fanfare-store", TESTKIT]),
    ("fanfare-chaos", &["fanfare-core", TESTKIT]),
    (
        "fanfare-fuzz",
        &["fanfare-console", "fanfare-store", "fanfare-broker", "fanfare-outbound", "fanfare-core"],
    ),
    ("xtask", &["fanfare-core", TESTKIT]),
];

/// Finds the dependencies that the table does not allow.
pub(crate) fn faults() -> Result<Vec<String>> {
    let output = cargo::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("running cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("reading cargo metadata: {}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(list(&metadata["packages"]).iter().flat_map(faults_of).collect())
}

/// Finds lines of commands that use a role, with their numbers. Commands share code with a role in
/// `fanfare-app` or a lower layer.
pub(crate) fn faults_of_command(path: &str, text: &str) -> Vec<(usize, String)> {
    if !path.starts_with(COMMANDS) || path.starts_with(RUNS_ROLES) {
        return Vec::new();
    }
    let uses = |(number, line): (usize, &str)| {
        let is_client = |role: &str| role == ROLES[3] && ASK_REPORT_SERVER.contains(&path);
        let role = ROLES.into_iter().find(|role| line.contains(role) && !is_client(role))?;
        Some((number, format!("a command does not use {role}, which only commands/roles.rs runs")))
    };
    (1..).zip(text.lines()).filter_map(uses).collect()
}

fn faults_of(package: &Value) -> Vec<String> {
    let name = text(&package["name"]);
    let Some((_, allowed)) = ALLOWED.iter().find(|(it, _)| *it == name) else {
        return vec![format!(
            "tools/xtask/src/edges.rs: the table has no row for the package {name}"
        )];
    };
    list(&package["dependencies"])
        .iter()
        .filter(|dependency| dependency["path"].is_string())
        .filter(|dependency| {
            let used = text(&dependency["name"]);
            // The tests of every layer use the testkit, and a package may use itself.
            let is_for_tests = dependency["kind"] == "dev" && (used == TESTKIT || used == name);
            !allowed.contains(&used) && !is_for_tests
        })
        .map(|dependency| {
            let used = text(&dependency["name"]);
            format!(
                "{name} depends on {used}: the layers in tools/xtask/src/edges.rs don't allow it"
            )
        })
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_a_command_that_uses_a_role() {
        let text = format!("//! A command.\nuse {}::oidc;\n", ROLES[2]);
        let found = |path: &str| faults_of_command(&format!("crates/{path}"), &text);
        let faults = found("fanfare/src/commands/webhooks/add.rs");
        assert_eq!(faults.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        for path in ["fanfare/src/commands/roles.rs", "fanfare/src/wiring.rs", "app/src/lib.rs"] {
            assert!(found(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn finds_an_edge_that_goes_up() {
        let package = |used: &str, kind: Value| {
            json!({
                "name": "fanfare-store",
                "dependencies": [
                    { "name": used, "kind": kind, "path": "/there" },
                    { "name": "anything", "kind": null },
                ],
            })
        };
        assert!(faults_of(&package("fanfare-core", Value::Null)).is_empty());
        assert!(faults_of(&package(TESTKIT, json!("dev"))).is_empty());
        assert_eq!(faults_of(&package(TESTKIT, Value::Null)).len(), 1);
        assert_eq!(faults_of(&package("fanfare-router", Value::Null)).len(), 1);
        assert_eq!(faults_of(&package("fanfare-broker", json!("dev"))).len(), 1);
        assert_eq!(faults_of(&json!({ "name": "fanfare-new", "dependencies": [] })).len(), 1);
    }
}
