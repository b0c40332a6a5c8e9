//! Python with the libraries of the examples, installed once for all tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the repository.
pub(crate) fn root() -> &'static Path {
    fanfare_testkit::build::workspace()
}

/// The interpreter with the packages of `examples/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    python_with("examples/requirements.txt", "target/tests-python")
}

/// An interpreter in a folder of its own, with the packages of a requirements file. Both paths are
/// relative to the repository.
pub(crate) fn python_with(requirements: &str, folder: &str) -> PathBuf {
    let (requirements, folder) = (root().join(requirements), root().join(folder));
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    let wanted = fs::read(&requirements).unwrap();
    if fs::read(&done).is_ok_and(|had| had == wanted) {
        return python;
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "python3 with its venv module is missing (Debian: apt-get install python3-venv)"
    );
    let got = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements)
        .status();
    let what = requirements.display();
    assert!(got.unwrap().success(), "pip can't get the packages of {what}");
    fs::write(done, wanted).unwrap();
    python
}

/// Runs a script that must succeed; returns its stdout.
pub(crate) async fn script(path: &str, args: &[&str]) -> String {
    let script = root().join(path);
    let script = script.to_string_lossy();
    let args: Vec<&str> = [script.as_ref()].into_iter().chain(args.iter().copied()).collect();
    let output = fanfare_testkit::process::run(&python(), &args, [], None).await.unwrap();
    output.success().unwrap()
}
