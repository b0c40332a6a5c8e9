//! The installed binary, without its debug information.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command::Cli;

fn separate(binary: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/separate-symbols");
    let output = Command::new(script).arg(binary).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn sections(file: &Path) -> String {
    let output = Command::new("readelf").args(["--sections", "--wide"]).arg(file).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn stripped_binary_runs_and_links_to_its_debug_information() {
    let cli = Cli::new();
    let binary: PathBuf = cli.path().join("fanfare");
    std::fs::copy(env!("CARGO_BIN_EXE_fanfare"), &binary).unwrap();
    let symbols = cli.path().join("fanfare.debug");
    separate(&binary);
    assert!(!sections(&binary).contains(".debug_line"), "{}", sections(&binary));
    assert!(sections(&binary).contains(".gnu_debuglink"), "{}", sections(&binary));
    assert!(sections(&symbols).contains(".debug_line"), "{}", sections(&symbols));
    let run = |argument| -> Output { Command::new(&binary).arg(argument).output().unwrap() };
    assert!(run("--version").status.success());

    let size = std::fs::metadata(&symbols).unwrap().len();
    separate(&binary);
    assert_eq!(std::fs::metadata(&symbols).unwrap().len(), size, "a second run changes nothing");
}
