//! A private `PgBouncer` before PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::endpoints::Endpoints;
use crate::postgres::{Postgres, unprivileged};
use crate::programs;
use crate::roles;

/// The time limit of a start, and of an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running pooler. It ends when it is dropped.
pub struct Pooler {
    endpoints: Endpoints,
    home: PathBuf,
    port: u16,
    database: SocketAddr,
    daemon: Option<Daemon>,
}

impl Pooler {
    pub(crate) fn start(
        folder: &Path,
        behind: &Endpoints,
        port: u16,
        settings: &str,
    ) -> Result<Self> {
        let program = programs::find_or_install_pgbouncer()?;
        let database = behind.database_addr().context("the database's URL has no address")?;
        let mut endpoints = behind.clone();
        let before = format!("@127.0.0.1:{port}");
        endpoints.database = behind.database.replace(&format!("@{database}"), &before);
        let home = folder.join(format!("pooler-{port}"));
        fs::create_dir(&home)?;
        let mut pooler = Self { endpoints, home, port, database, daemon: None };
        pooler.write(settings)?;
        let user = unprivileged()?;
        let mut command = Command::new(program);
        command.arg("pgbouncer.ini").current_dir(&pooler.home);
        if let Some((user, group)) = user {
            for file in ["", "users", "pgbouncer.ini"] {
                chown(pooler.home.join(file), Some(user), Some(group))?;
            }
            command.uid(user).gid(group);
        }
        let mut daemon = Daemon::spawn(command, folder, &format!("pooler-{port}"), "KILL")?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        daemon
            .wait_until(PATIENCE, || TcpStream::connect(addr).is_ok())
            .context("starting PgBouncer")?;
        pooler.daemon = Some(daemon);
        Ok(pooler)
    }

    /// The URL of the database `name`, through the pooler.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        self.endpoints.database_url(name)
    }

    /// Changes its settings while it runs, and waits until they are in effect.
    pub fn change(&self, settings: &str) -> Result<()> {
        self.write(settings)?;
        self.endpoints.sql("pgbouncer", "reload").map(drop)
    }

    fn write(&self, settings: &str) -> Result<()> {
        let (port, database) = (self.port, self.database.port());
        let users: String =
            roles::users(Postgres::USER, roles::password_of(&self.endpoints.database));
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={database}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = plain\nauth_file = users\nadmin_users = {}\n\
             default_pool_size = 50\n{settings}\n",
            Postgres::USER
        );
        for (name, text) in [("users", users), ("pgbouncer.ini", ini)] {
            let file = self.home.join(name);
            fs::write(&file, text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // Should this fail, the keeper ends it. This signal ends it at once.
            let _ = daemon.end(Signal::TERM, PATIENCE);
        }
    }
}
