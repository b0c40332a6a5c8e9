//! One installation of Fanfare: the binary, its settings, its servers, and where its processes run.
//!
//! The tests, the demo and the benchmark all start their processes with it. Each adds what only it
//! needs.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use uuid::Uuid;

use crate::build::SECRET_KEYS;
use crate::endpoints::Endpoints;
use crate::process::{self, Output, Process};
use crate::roles::as_role;
use crate::sandbox::Sandbox;

/// The broker's user that publishes events, and may do nothing else.
pub const REPORT_SERVER: &str = "report_server";

const DATABASE_URL: &str = "FANFARE_DATABASE_URL";
const AMQP_URL: &str = "FANFARE_AMQP_URL";

/// An installation. Its processes get its settings, and no other setting of Fanfare.
#[derive(Debug)]
pub struct Installation {
    binary: PathBuf,
    settings: Vec<(String, String)>,
    has_accounts: bool,
    home: Home,
    // Dropped last: its end takes the database and the virtual host away.
    sandbox: Option<Sandbox>,
}

/// Where processes run.
#[derive(Debug)]
enum Home {
    /// Where this process runs.
    Inherited,
    /// In a folder that is removed at the end, with nothing of this process's environment.
    Private(PathBuf),
    /// In the folder of private servers, in process groups of their own.
    Servers(PathBuf),
}

impl Installation {
    /// A binary without any setting.
    pub fn unconfigured(binary: impl Into<PathBuf>) -> Self {
        let (settings, home) = (Vec::new(), Home::Inherited);
        Self { binary: binary.into(), settings, has_accounts: false, home, sandbox: None }
    }

    /// An installation that uses these servers and may send to this machine.
    pub fn new(binary: impl Into<PathBuf>, database_url: &str, amqp_url: &str) -> Self {
        Self::unconfigured(binary)
            .with(DATABASE_URL, database_url)
            .with(AMQP_URL, amqp_url)
            .with("FANFARE_SECRET_KEYS", SECRET_KEYS)
            .with("FANFARE_ALLOW_TARGETS", "127.0.0.0/8")
    }

    /// An installation that uses a new database and a new virtual host, both called `name`.
    pub fn create(binary: impl Into<PathBuf>, endpoints: &Endpoints, name: &str) -> Result<Self> {
        endpoints.create_database(name)?;
        endpoints.create_vhost(name)?;
        Ok(Self::new(binary, &endpoints.database_url(name), &endpoints.amqp_url(name)))
    }

    /// An installation that uses a sandbox, and keeps it.
    pub fn in_sandbox(binary: impl Into<PathBuf>, sandbox: Sandbox) -> Self {
        let mut installation = Self::new(binary, &sandbox.database_url, &sandbox.amqp_url);
        installation.sandbox = Some(sandbox);
        installation
    }

    /// The same with one setting changed.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Changes a setting of what is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The same with each command logging in to the servers as in a real installation: with the
    /// rights that `deploy/postgres` and `deploy/rabbitmq` give its role, and no more.
    #[must_use]
    pub fn with_accounts(mut self) -> Self {
        self.has_accounts = true;
        self
    }

    /// The same in a new folder, which is also its HOME, and with nothing else in the environment.
    /// The folder is removed with the installation.
    pub fn in_private_folder(mut self) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("fanfare-home-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        self.home = Home::Private(folder);
        Ok(self)
    }

    /// The same in the folder of [private servers](crate::servers::Servers). Ctrl-C on the terminal
    /// does not reach its processes.
    #[must_use]
    pub fn in_folder_of_servers(mut self, folder: &Path) -> Self {
        self.home = Home::Servers(folder.to_owned());
        self
    }

    /// The binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The folder of its processes, if it is not that of this process.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.home {
            Home::Inherited => None,
            Home::Private(folder) | Home::Servers(folder) => Some(folder),
        }
    }

    /// The settings, as environment variables.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// The value of one setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The sandbox, if the installation has one.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref()
    }

    /// The URL of the database, as `command` gets it.
    #[must_use]
    pub fn database_url(&self, command: &str) -> Option<String> {
        let mut settings = self.settings_of(command);
        settings.find(|(name, _)| *name == DATABASE_URL).map(|(_, url)| url)
    }

    /// The URL of the broker, as `command` gets it.
    #[must_use]
    pub fn amqp_url(&self, command: &str) -> Option<String> {
        let mut settings = self.settings_of(command);
        settings.find(|(name, _)| *name == AMQP_URL).map(|(_, url)| url)
    }

    /// The binary with arguments, ready to be started. The first argument is the command, which
    /// decides the accounts.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command(&self.binary, args, []);
        match &self.home {
            Home::Inherited => {}
            Home::Private(folder) => {
                command.env_clear().env("HOME", folder).current_dir(folder);
            }
            Home::Servers(folder) => {
                command.process_group(0).current_dir(folder);
            }
        }
        command.envs(self.settings_of(args.first().unwrap_or(&"")));
        command
    }

    /// Runs a command to its end, with `stdin` as its input. Fails after two minutes.
    pub async fn output(&self, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let output = process::output_of(self.command(args), stdin).await;
        output.with_context(|| format!("running fanfare {}", args.join(" ")))
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub async fn run(&self, args: &[&str], stdin: Option<&str>) -> Result<String> {
        let output = self.output(args, stdin).await?;
        output.success().with_context(|| format!("running fanfare {}", args.join(" ")))
    }

    /// Runs a command with `--json` that must succeed, and returns the document.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let printed = self.run(&args, None).await?;
        serde_json::from_str(&printed).with_context(|| format!("reading {printed:?}"))
    }

    /// Starts a command that runs until it is stopped.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Process {
        Process::of(self.command(args))
    }

    /// The settings of a command, with the accounts that it runs under.
    fn settings_of(&self, command: &str) -> impl Iterator<Item = (&str, String)> {
        let (role, user) = accounts(command);
        self.settings.iter().map(move |(name, value)| {
            let value = match name.as_str() {
                DATABASE_URL if self.has_accounts => as_role(value, role),
                AMQP_URL if self.has_accounts => as_role(value, user),
                _ => value.clone(),
            };
            (name.as_str(), value)
        })
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Home::Private(folder) = &self.home {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// What a process of a role logs once it works: a console listens, the others are connected.
#[must_use]
pub fn ready_line(role: &str) -> &'static str {
    if role == "console" { "listening on" } else { "connected to the broker" }
}

/// The database's role and the broker's user that a command logs in as.
fn accounts(command: &str) -> (&'static str, &'static str) {
    match command {
        "migrate" => ("fanfare_migrate", "fanfare_migrate"),
        "router" => ("fanfare_router", "fanfare_router"),
        "worker" => ("fanfare_worker", "fanfare_worker"),
        "console" => ("fanfare_console", "fanfare_console"),
        // A router may do with the broker all that the other roles may.
        "all" => ("fanfare_all", "fanfare_router"),
        // A bridge stands for the report server, and uses no database.
        "publish" | "bridge" => ("fanfare_admin", REPORT_SERVER),
        _ => ("fanfare_admin", "fanfare_admin"),
    }
}
