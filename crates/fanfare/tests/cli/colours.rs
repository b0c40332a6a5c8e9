//! Colours are used on a terminal, unless the environment refuses them.

use std::process::{Command, Stdio};

use crate::command::Cli;

/// Runs a command on a terminal, and returns its output.
fn on_terminal(cli: &Cli, variables: &[(&str, &str)], arguments: &str) -> String {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_fanfare"));
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    terminal.current_dir(cli.path()).env_clear().env("HOME", cli.path());
    terminal.env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
    terminal.stdin(Stdio::null());
    String::from_utf8(terminal.output().unwrap().stdout).unwrap()
}

#[test]
fn colours_are_used_on_terminals_unless_the_environment_refuses_them() {
    let cli = Cli::new();
    // The router logs its address, and ends because no broker is set.
    let role = "router --metrics-listen 127.0.0.1:0";
    let help = "listen --help";
    let colourful: [(&str, &str); 2] = [("TERM", "xterm"), ("NO_COLOR", "")];
    let refused: [(&str, &str); 2] = [("TERM", "xterm"), ("NO_COLOR", "1")];
    for (arguments, says) in [(role, "serving /metrics"), (help, "Usage:")] {
        let text = on_terminal(&cli, &colourful, arguments);
        assert!(text.contains(says) && text.contains('\u{1b}'), "{arguments}: {text}");
        for plain in [refused, [("TERM", "dumb"), ("NO_COLOR", "")]] {
            let text = on_terminal(&cli, &plain, arguments);
            assert!(text.contains(says) && !text.contains('\u{1b}'), "{plain:?}: {text}");
        }
    }
    // Not on a terminal.
    let ended = cli.run(&["router", "--metrics-listen", "127.0.0.1:0"]);
    assert!(ended.stderr.contains("serving /metrics"), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
}
