//! Wrong calls: exit code 2 and a line that says what to do.

use crate::command::Place;

#[test]
fn help_and_version_succeed() {
    let place = Place::new();
    let version = place.run(&["--version"]);
    assert_eq!((version.code, version.stdout.starts_with("fanfare ")), (Some(0), true));
    let help = place.run(&["listen", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["--fail-first", "--database-url", "FANFARE_TIMEOUT"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    assert!(!place.run(&["listen", "-h"]).stdout.contains("--database-url"));
}

#[test]
fn wrong_arguments_are_told_in_one_line() {
    let place = Place::new();
    let ended = place.run(&["listen"]);
    assert!(ended.failed_with(2).contains("--port <N>"));
    let ended = place.run(&["listen", "--prot", "1"]);
    assert!(ended.failed_with(2).contains("--port"));
    let ended = place.run(&["listen", "--port", "0", "--secret", "short"]);
    assert!(ended.failed_with(2).contains("32 to 128 characters"));
    let ended = place.run(&["lisen"]);
    assert!(ended.failed_with(2).contains("listen"));
}

#[test]
fn no_command_shows_the_help_and_fails() {
    let ended = Place::new().run(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage: fanfare"));
}
