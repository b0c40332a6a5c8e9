//! The Helm chart, rendered by Helm's own library and validated with Kubernetes' schemas.

use fanfare_testkit::process::run;

use crate::python_env::{python_with, root};

#[tokio::test]
async fn chart_renders_to_valid_kubernetes_objects() {
    let make = || python_with("tests/chart/requirements.txt", "target/tests-chart");
    let python = tokio::task::spawn_blocking(make).await.unwrap();
    let (script, top) = (root().join("tests/chart/check.py"), root().canonicalize().unwrap());
    let args = [script.to_string_lossy(), top.to_string_lossy()];
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let right = run(&python, &args, [], None).await.unwrap().success().unwrap();
    assert!(right.trim().parse::<usize>().unwrap() > 30, "{right} objects");
}
