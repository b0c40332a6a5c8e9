//! Node.js with the packages of the provider, got once for all tests that want it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::python_env::root;

const FILES: [&str; 3] = ["package.json", "package-lock.json", "provider.mjs"];

/// The provider's script, beside its packages.
pub(super) fn script() -> PathBuf {
    let source = root().join("tests/node/oidc");
    let folder = root().join("target/tests-node/oidc");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (script, done) = (folder.join("provider.mjs"), folder.join("done"));
    let wanted = FILES.map(|file| fs::read(source.join(file)).unwrap()).concat();
    if fs::read(&done).is_ok_and(|had| had == wanted) {
        return script;
    }
    for file in FILES {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let got = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
        .current_dir(&folder)
        .status();
    assert!(
        got.is_ok_and(|status| status.success()),
        "npm can't get the packages of tests/node/oidc (Debian: apt-get install nodejs npm)"
    );
    fs::write(done, wanted).unwrap();
    script
}
