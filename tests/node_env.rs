//! Node.js with packages from the registry, downloaded once for all tests.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::python_env::root;

/// Copies a script into a folder of its own under `target`, next to the packages that it imports.
/// `source` is the script's folder in the repository, with `package.json` and `package-lock.json`.
pub(crate) fn node_script(source: &str, script: &str, folder: &str) -> PathBuf {
    let files = ["package.json", "package-lock.json", script];
    let (source, folder) = (root().join(source), root().join(folder));
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (path, done) = (folder.join(script), folder.join("done"));
    let wanted = files.map(|file| fs::read(source.join(file)).unwrap()).concat();
    if fs::read(&done).is_ok_and(|had| had == wanted) {
        return path;
    }
    for file in files {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let got = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
        .current_dir(&folder)
        .status();
    let what = source.display();
    assert!(
        got.is_ok_and(|status| status.success()),
        "npm can't get the packages of {what} (Debian: apt-get install nodejs npm)"
    );
    fs::write(done, wanted).unwrap();
    path
}
