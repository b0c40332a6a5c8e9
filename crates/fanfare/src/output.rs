//! The output of the program: documents on stdout, one line on stderr for a failure, and the exit
//! code.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use fanfare_broker::BrokerError;
use fanfare_core::chain::chain;
use fanfare_store::StoreError;
use serde::Serialize;

use crate::settings::SettingsError;

/// The exit code when the command was called or configured wrongly.
const MISUSE: u8 = 2;

/// The command was called or configured wrongly: the exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

/// Prints a failure on one line of stderr, and returns the exit code.
pub(crate) fn finish(result: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprint_line(&explain(error));
    if is_misconfigured(error) { ExitCode::from(MISUSE) } else { ExitCode::FAILURE }
}

/// Whether a person has to change the arguments or the configuration.
pub(crate) fn is_misconfigured(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Misuse>().is_some() || error.chain().any(is_misuse)
}

/// An error with its causes, and advice if the text of the causes has none.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let chain = chain(error.as_ref());
    match error.chain().find_map(advice) {
        Some(advice) => format!("{chain}; {advice}"),
        None => chain,
    }
}

fn is_misuse(cause: &(dyn std::error::Error + 'static)) -> bool {
    // Servers that a person has to change count as configuration too.
    let store = match cause.downcast_ref::<StoreError>() {
        Some(StoreError::BadUrl(_) | StoreError::BadParameter { .. } | StoreError::Tls(_)) => true,
        Some(error) => error.advice().is_some(),
        None => false,
    };
    let broker = cause.downcast_ref::<BrokerError>().is_some_and(BrokerError::needs_a_person);
    store || broker || cause.is::<Misuse>() || cause.is::<SettingsError>()
}

fn advice(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let store = match cause.downcast_ref::<StoreError>() {
        Some(StoreError::TooManyWebhooks { .. }) => {
            Some("delete some with `fanfare webhooks delete`, or raise FANFARE_WEBHOOKS_PER_OWNER")
        }
        Some(StoreError::Connect(_)) => {
            Some("check that PostgreSQL runs and that FANFARE_DATABASE_URL is correct")
        }
        Some(StoreError::BadUrl(_) | StoreError::BadParameter { .. } | StoreError::Tls(_)) => {
            Some("correct FANFARE_DATABASE_URL")
        }
        Some(error) => error.advice(),
        None => None,
    };
    let broker = match cause.downcast_ref::<BrokerError>() {
        Some(BrokerError::Unreachable { .. } | BrokerError::NoAnswer { .. }) => {
            Some("check that RabbitMQ runs and that FANFARE_AMQP_URL is correct")
        }
        Some(BrokerError::Address { .. } | BrokerError::Tls(_)) => Some("correct FANFARE_AMQP_URL"),
        _ => None,
    };
    store.or(broker)
}

/// Prints the first steps, for a call without a command, and returns the exit code. They go to
/// stderr, because a script that calls `fanfare` like this has an error.
pub(crate) fn finish_without_command(first_steps: &str) -> ExitCode {
    let _ = io::stderr().lock().write_all(first_steps.as_bytes());
    ExitCode::from(MISUSE)
}

/// Prints the help, the version, or a line about invalid arguments, and returns the exit code.
pub(crate) fn finish_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(MISUSE)
        }
        _ => {
            eprint_line(&one_line(&error.render().to_string()));
            ExitCode::from(MISUSE)
        }
    }
}

/// Prints text on stdout. A reader that closes the pipe early, such as `head`, is not a failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints one JSON document on stdout.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints a line on stderr, for a person.
pub(crate) fn note(text: &str) {
    // If stderr is closed, the failure to write to it can't be reported anywhere.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a text over the last line of a terminal on stderr, for a person.
pub(crate) fn progress(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\u{1b}[K{}", plain(text)).and_then(|()| stderr.flush());
}

/// Escapes the control characters of text from outside, so that it is safe for a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if c.is_control() {
            let _ = write!(plain, "{}", c.escape_default());
        } else {
            plain.push(c);
        }
        plain
    })
}

fn eprint_line(text: &str) {
    note(&format!("fanfare: {}", plain(&text.replace(['\n', '\r'], " "))));
}

/// The argument parser's message of several paragraphs, as one line.
fn one_line(rendered: &str) -> String {
    let text = rendered.trim().trim_start_matches("error: ");
    let paragraphs = text.split("\n\n").map(|lines| {
        let lines: Vec<&str> = lines.lines().map(str::trim).collect();
        lines.join(" ")
    });
    paragraphs.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn repeated_causes_are_printed_once() {
        let error = anyhow::anyhow!("refused").context("connect: refused").context("start");
        assert_eq!(explain(&error), "start: connect: refused");
    }

    #[test]
    fn misuse_in_the_error_chain_exits_with_2() {
        let failed: anyhow::Result<()> = Err(anyhow::anyhow!("x"));
        assert_eq!(finish(&failed), ExitCode::FAILURE);
        let misuse: anyhow::Result<()> = Err(Misuse("x".to_owned()).into());
        assert_eq!(finish(&misuse), ExitCode::from(2));
        let inside: anyhow::Result<()> = Err(Misuse("x".to_owned())).context("y");
        assert_eq!(finish(&inside), ExitCode::from(2));
        let outside = Err::<(), _>(anyhow::anyhow!("x")).context(Misuse("y".to_owned()));
        assert_eq!(finish(&outside), ExitCode::from(2));
        assert_eq!(finish(&Ok(())), ExitCode::SUCCESS);
    }

    #[test]
    fn usage_errors_are_printed_on_one_line() {
        let rendered =
            "error: one is missing:\n  --port <PORT>\n\nUsage: fanfare listen\n\nTry it.\n";
        assert_eq!(
            one_line(rendered),
            "one is missing: --port <PORT>; Usage: fanfare listen; Try it."
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(plain("a\u{1b}[31mb\tü"), "a\\u{1b}[31mb\\tü");
    }
}
