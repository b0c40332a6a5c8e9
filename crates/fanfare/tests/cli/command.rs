//! Runs the binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fanfare_testkit::Installation;
use fanfare_testkit::process::{Output, Process};

/// The binary in a folder that is removed with the test. Its environment is what a test adds.
pub(crate) struct Cli {
    installation: Installation,
}

impl Cli {
    /// Without any setting.
    pub(crate) fn new() -> Self {
        Self::of(Installation::unconfigured(env!("CARGO_BIN_EXE_fanfare")))
    }

    /// With the URLs of a database and a broker.
    pub(crate) fn with_urls(database: &str, broker: &str) -> Self {
        let installation = Installation::unconfigured(env!("CARGO_BIN_EXE_fanfare"));
        let installation = installation.with("FANFARE_DATABASE_URL", database);
        Self::of(installation.with("FANFARE_AMQP_URL", broker))
    }

    fn of(installation: Installation) -> Self {
        Self { installation: installation.in_private_folder().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.installation.folder().unwrap()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.installation.command(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a command, without waiting for it.
    pub(crate) fn start(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        Process::of(command)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&[], arguments)
    }

    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        self.command(arguments).envs(variables.iter().copied()).output().unwrap().into()
    }

    /// Runs a command whose stdin is `text`.
    pub(crate) fn run_with_stdin(&self, arguments: &[&str], text: &str) -> Output {
        let file = std::fs::File::open(self.file("stdin", text)).unwrap();
        self.command(arguments).stdin(file).output().unwrap().into()
    }
}
