//! Accessibility checks of a page by axe-core.

use std::fs::{self, File};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::window::Window;
use crate::python_env::root;

/// The rules that are checked: WCAG 2.2, A and AA, and best practices.
const RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// The rules that the current page breaks, each with the elements that break it.
pub(super) async fn faults(window: &Window) -> Vec<String> {
    window.run(script()).await.unwrap();
    let run = format!(
        "const done = arguments[0]; \
         axe.run(document, {{ runOnly: {RULES}, resultTypes: ['violations'] }}) \
         .then(found => done(found.violations), error => done(String(error)))"
    );
    let found = window.run_async(&run).await.unwrap();
    let rules = found.as_array().unwrap_or_else(|| panic!("axe-core failed: {found}"));
    rules.iter().flat_map(broken).collect()
}

fn broken(rule: &Value) -> Vec<String> {
    let nodes = rule["nodes"].as_array().unwrap();
    let description = |node: &Value| {
        format!("{} ({}): {} {}", rule["id"], rule["impact"], node["html"], node["failureSummary"])
    };
    nodes.iter().map(description).collect()
}

/// The script, downloaded from the registry once for all tests.
fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let from = root().join("tests/node/browser");
        let folder = root().join("target/tests-node/browser");
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let wanted = fs::read(from.join("package-lock.json")).unwrap();
        let done = folder.join("done");
        if !fs::read(&done).is_ok_and(|had| had == wanted) {
            for name in ["package.json", "package-lock.json"] {
                fs::copy(from.join(name), folder.join(name)).unwrap();
            }
            let got = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
                .current_dir(&folder)
                .status();
            assert!(
                got.is_ok_and(|status| status.success()),
                "npm can't get axe-core (Debian: apt-get install npm)"
            );
            fs::write(done, wanted).unwrap();
        }
        fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js")).unwrap()
    })
}
