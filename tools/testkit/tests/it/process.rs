//! Processes: their output is read, they get signals, and they are killed when dropped.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use fanfare_testkit::process::{Process, run};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn is_heard_on_both_outputs() {
    let mut process = sh("echo one; echo two >&2; echo $WORD; exit 3", [("WORD", "three")]);
    for word in ["one", "two", "three"] {
        assert_eq!(process.wait_for_line(word, SOON).await, word);
    }
    assert_eq!(process.wait_exit(SOON).await.code(), Some(3));
    assert!(!process.is_running());
    assert_eq!(process.lines().len(), 3);
}

#[tokio::test]
async fn can_be_asked_to_end() {
    let mut process = sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done", []);
    process.wait_for_line("up", SOON).await;
    assert!(process.is_running());
    process.terminate();
    process.wait_for_line("bye", SOON).await;
    assert!(process.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn can_be_killed() {
    let mut process = sh("exec sleep 60", []);
    process.kill9();
    let status = process.wait_exit(SOON).await;
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
}

#[tokio::test]
async fn is_killed_when_dropped() {
    let process = sh("exec sleep 60", []);
    let entry = format!("/proc/{}", process.id());
    assert!(fs::exists(&entry).unwrap());
    drop(process);
    assert!(!fs::exists(&entry).unwrap());
}

#[tokio::test]
async fn runs_to_its_end_with_input() {
    let script = ["-c", "cat; echo oops >&2; exit $CODE"];
    let output = run(Path::new("sh"), &script, [("CODE", "0")], Some("in")).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("in", "oops\n"));
    assert_eq!(output.success().unwrap(), "in");

    let output = run(Path::new("sh"), &script, [("CODE", "4")], None).await.unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(output.success().unwrap_err().to_string().contains("oops"));
    assert!(run(Path::new("/nowhere"), &[], [], None).await.is_err());
}

fn sh<const N: usize>(script: &str, envs: [(&str, &str); N]) -> Process {
    Process::spawn(Path::new("sh"), &["-c", script], envs)
}
