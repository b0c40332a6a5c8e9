//! A private PostgreSQL server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::programs::Programs;

/// A start after a crash replays the log first.
const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// The server's files, and its process while it runs.
pub(crate) struct Postgres {
    programs: Programs,
    folder: PathBuf,
    /// The name of its files and of its process.
    name: &'static str,
    home: PathBuf,
    /// The user and group that the server runs as, when we are root: it refuses root.
    user: Option<(u32, u32)>,
    pub(crate) port: u16,
    is_durable: bool,
    daemon: Option<Daemon>,
}

impl Postgres {
    /// The name of the superuser.
    pub(crate) const USER: &str = "fanfare";

    /// Makes an empty cluster in `folder`. `is_durable` decides whether commits reach the disk.
    pub(crate) fn create(
        programs: &Programs,
        folder: &Path,
        port: u16,
        password: &str,
        is_durable: bool,
    ) -> Result<Self> {
        let server = Self::empty(programs, folder, "postgres", port, is_durable)?;
        let password_file = server.home.join("password");
        fs::write(&password_file, password)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = server.user {
            chown(&password_file, Some(user), Some(group))?;
        }
        server.init(&password_file).context("making a PostgreSQL cluster with initdb")?;
        Ok(server)
    }

    /// Makes a standby of this server, which runs and answers at `url`.
    pub(crate) fn standby(&self, url: &str, port: u16) -> Result<Self> {
        let standby = Self::empty(&self.programs, &self.folder, "standby", port, false)?;
        let mut command = standby.command("pg_basebackup");
        command.args(["--pgdata=data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        command.args(["--dbname", url]);
        Daemon::spawn(command, &self.folder, "pg_basebackup", "KILL")?
            .wait()
            .context("copying a PostgreSQL cluster with pg_basebackup")?;
        Ok(standby)
    }

    /// A server without files.
    fn empty(
        programs: &Programs,
        folder: &Path,
        name: &'static str,
        port: u16,
        is_durable: bool,
    ) -> Result<Self> {
        let home = folder.join(name);
        fs::create_dir(&home)?;
        let user = unprivileged()?;
        if let Some((user, group)) = user {
            chown(&home, Some(user), Some(group))?;
        }
        let (programs, folder) = (programs.clone(), folder.to_path_buf());
        Ok(Self { programs, folder, name, home, user, port, is_durable, daemon: None })
    }

    /// Starts the server and waits until it takes connections.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        // A killed server leaves the file behind, and its last line says ready.
        let status_file = self.home.join("data/postmaster.pid");
        let _ = fs::remove_file(&status_file);
        let mut command = self.command("postgres");
        command.args(["-D", "data"]).args([
            format!("--port={}", self.port),
            "--listen_addresses=127.0.0.1".to_owned(),
            "--unix_socket_directories=".to_owned(),
            "--max_connections=300".to_owned(),
            format!("--fsync={}", if self.is_durable { "on" } else { "off" }),
        ]);
        // PostgreSQL's signal to end at once with all its processes.
        let mut daemon = Daemon::spawn(command, &self.folder, self.name, "QUIT")?;
        daemon
            .wait_until(START_PATIENCE, || {
                let status = fs::read_to_string(&status_file).unwrap_or_default();
                status.lines().last().is_some_and(|line| line.trim() == "ready")
            })
            .context("starting PostgreSQL")?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops the server in order: sessions are ended, everything is on disk.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.end(Signal::INT)
    }

    /// Stops the server as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.end(Signal::QUIT)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::id)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(daemon) = self.daemon.take() else {
            return Ok(());
        };
        daemon.end(signal, STOP_PATIENCE).context("stopping PostgreSQL")?;
        Ok(())
    }

    fn init(&self, password_file: &Path) -> Result<()> {
        let mut command = self.command("initdb");
        command
            .args([
                "--pgdata=data",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ])
            // The password crosses loopback only; scram's thousands of rounds would cost an
            // unoptimised client a good part of a second for each connection.
            .args(["--auth=password", "--username", Self::USER, "--pwfile"])
            .arg(password_file);
        Daemon::spawn(command, &self.folder, "initdb", "KILL")?.wait()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.postgres.join(program);
        let mut command = self.programs.command(&program, self.user);
        // Settings of the machine's own server must not reach this one.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C");
        command.current_dir(&self.home);
        command
    }
}

/// The user and group for servers that refuse root, when we are root.
pub(crate) fn unprivileged() -> Result<Option<(u32, u32)>> {
    rustix::process::geteuid().is_root().then(unprivileged_user).transpose()
}

/// The package's own user, or else the user `nobody`.
fn unprivileged_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| {
            let fields: Vec<&str> = users
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|it| it.first() == Some(name))?;
            Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
        .context("these servers refuse to run as root, and there is no user postgres or nobody")
}
