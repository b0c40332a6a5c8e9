//! Help, and wrong calls, which exit with 2 and a line that says what to do.

use std::process::Command;

use crate::command::Cli;

#[test]
fn help_and_version_succeed() {
    let cli = Cli::new();
    let version = cli.run(&["--version"]);
    assert_eq!((version.code(), version.stdout.starts_with("fanfare ")), (Some(0), true));
    let help = cli.run(&["listen", "--help"]);
    assert_eq!(help.code(), Some(0));
    for word in ["--fail-first", "fanfare help settings"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let settings = cli.run(&["help", "settings"]);
    assert_eq!(settings.code(), Some(0));
    assert!(settings.stdout.contains("--database-url <URL>"), "{}", settings.stdout);
    assert!(settings.stdout.contains("FANFARE_TIMEOUT"));
    let wrong = [("FANFARE_TIMEOUT", "never"), ("FANFARE_DATABASE_URL", "hidden")];
    assert_eq!(cli.run_with(&wrong, &["settings"]).stdout, settings.stdout);
}

#[test]
fn wrong_arguments_are_reported_on_one_line() {
    let cli = Cli::new();
    let ended = cli.run(&["listen"]);
    assert!(ended.failed_with(2).contains("--port <N>"));
    let ended = cli.run(&["listen", "--prot", "1"]);
    assert!(ended.failed_with(2).contains("--port"));
    let ended = cli.run(&["listen", "--port", "0", "--secret", "short"]);
    assert!(ended.failed_with(2).contains("32 to 128 characters"));
    let ended = cli.run(&["lisen"]);
    assert!(ended.failed_with(2).contains("listen"));
}

#[test]
fn call_without_a_command_shows_the_first_steps_and_fails() {
    let ended = Cli::new().run(&[]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""));
    for words in ["Usage: fanfare", "fanfare doctor", "fanfare migrate", "fanfare --help"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert!(ended.stderr.lines().count() < 15, "{}", ended.stderr);
}

#[test]
fn command_group_without_a_command_shows_its_help_and_fails() {
    // A variable in the environment does not count as an argument.
    for variables in [&[][..], &[("FANFARE_TIMEOUT", "1s")]] {
        let ended = Cli::new().run_with(variables, &["webhooks"]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""));
        assert!(ended.stderr.contains("Usage: fanfare webhooks"), "{}", ended.stderr);
    }
}

#[test]
fn completions_and_manual_pages_need_no_settings() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "timeout = \"never\"");
    assert_eq!(cli.run(&["config"]).code(), Some(2));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = cli.run_with(&[("FANFARE_TIMEOUT", "never")], &["completions", shell]);
        assert_eq!(script.code(), Some(0), "{}", script.stderr);
        assert!(script.stdout.contains("dead-letters"), "{shell}");
    }
    assert!(cli.run(&["completions", "tcsh"]).failed_with(2).contains("zsh"));

    let written = cli.run(&["man", "share/man1"]);
    assert_eq!(written.code(), Some(0), "{}", written.stderr);
    let read = |name: &str| std::fs::read_to_string(cli.path().join("share/man1").join(name));
    assert!(read("fanfare.1").unwrap().contains("webhooks"));
    let page = read("fanfare-webhooks-add.1").unwrap();
    assert!(page.contains("no\\-verify") && !page.contains("database\\-connections"), "{page}");
    assert!(read("fanfare-settings.1").unwrap().contains("FANFARE_TIMEOUT"));
    cli.file("taken", "");
    assert!(cli.run(&["man", "taken"]).failed_with(1).contains("manual pages to taken"));
}

#[test]
fn bash_accepts_its_completions() {
    let cli = Cli::new();
    let script = cli.run(&["completions", "bash"]).stdout;
    let path = cli.file("fanfare.bash", &script);
    let ask = format!(
        "source {}; COMP_WORDS=(fanfare webhooks add --own); COMP_CWORD=3; \
         _fanfare fanfare --own add; echo \"${{COMPREPLY[@]}}\"",
        path.display()
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "--owner\n");
}
