//! The installation that is broken: servers of its own, six processes, and a proxy before each
//! server for each process.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::service::{Home, Logs};
use fanfare_testkit::small_disk::SmallDisk;
use fanfare_testkit::{Endpoints, Installation, build, faketime};
use tokio::sync::{Mutex, MutexGuard};

use crate::fault::Link;
use crate::spec::{PROCESSES, ProcessIndex, has_own_clock};
use crate::world::OWNERS;

/// The name of the database and of the virtual host.
pub(crate) const NAME: &str = "fanfare";

/// Short times, so that a run sees what takes hours otherwise.
const SETTINGS: [(&str, &str); 8] = [
    ("FANFARE_RETRY_FIRST", "1s"),
    ("FANFARE_RETRY_MAX_DELAY", "8s"),
    ("FANFARE_RETRY_ATTEMPTS", "6"),
    ("FANFARE_TIMEOUT", "5s"),
    // A document may be late for as long as the broker and all routers are away.
    ("FANFARE_DIRECTORY_HOLD", "6h"),
    ("FANFARE_LOG", "warn,fanfare=info"),
    ("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0"),
    ("FANFARE_METRICS_LISTEN", "127.0.0.1:0"),
];

/// Servers, addresses and settings. Its processes are in [`crate::processes`].
pub(crate) struct Site {
    pub(crate) servers: Arc<Servers>,
    installation: Installation,
    proxies: BTreeMap<Link, Mutex<Proxy>>,
    clocks: PathBuf,
    /// The database's disk, if it can be full.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) home: Home,
}

impl Site {
    /// Starts the servers, with tables and no processes. Without a binary, one is built.
    ///
    /// All receivers are behind `receivers`, those of each owner through a host of their own.
    pub(crate) async fn start(
        logs: &Logs,
        binary: Option<PathBuf>,
        receivers: SocketAddr,
        has_own_mounts: bool,
    ) -> Result<Self> {
        let binary = match binary {
            Some(path) => fs::canonicalize(&path)
                .with_context(|| format!("looking for {}", path.display()))?,
            None => build::fanfare(profile()).await?,
        };
        let (servers, disk) = blocking(move || {
            let servers = Servers::start(&std::env::temp_dir())?;
            servers.create_database(NAME)?;
            servers.create_vhost(NAME)?;
            let disk = has_own_mounts.then(|| servers.put_on_small_disk(NAME)).transpose()?;
            Ok((servers, disk))
        })
        .await?;
        let home = Home::new(&servers, logs);
        let (database, amqp) = (servers.database_url(NAME), servers.amqp_url(NAME));
        let mut installation = Installation::new(binary, &database, &amqp)
            .with_accounts()
            .in_folder_of_servers(servers.folder());
        for (name, value) in SETTINGS {
            installation = installation.with(name, value);
        }
        installation.run(&["migrate"], None).await?;
        let clocks = servers.folder().join("clocks");
        fs::create_dir(&clocks).context("making the folder of clocks")?;
        let (servers, proxies) = (Arc::new(servers), BTreeMap::new());
        let mut site = Self { servers, installation, proxies, clocks, disk, home };
        for at in 0..PROCESSES.len() {
            site.add_proxy(Link::Broker(at), site.endpoints().broker_addr())?;
            site.add_proxy(Link::Database(at), site.endpoints().database_addr())?;
            site.set_clock(at, 0)?;
        }
        for owner in 0..OWNERS {
            site.add_proxy(Link::Receivers(owner), Some(receivers))?;
        }
        Ok(site)
    }

    fn add_proxy(&mut self, link: Link, target: Option<SocketAddr>) -> Result<()> {
        let proxy = Proxy::start(target.context("the server's address is not known")?);
        self.proxies.insert(link, Mutex::new(proxy));
        Ok(())
    }

    /// The servers' addresses, without any proxy.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        self.servers.endpoints()
    }

    /// The installation as a person on the machine uses it, without any proxy.
    pub(crate) fn commands(&self) -> &Installation {
        &self.installation
    }

    /// The proxy of a link.
    pub(crate) async fn proxy(&self, link: Link) -> Result<MutexGuard<'_, Proxy>> {
        Ok(self.proxies.get(&link).with_context(|| format!("no proxy: {link}"))?.lock().await)
    }

    /// Runs a statement in the database, straight at the server.
    pub(crate) async fn sql(&self, statement: impl Into<String>) -> Result<String> {
        let (servers, statement) = (Arc::clone(&self.servers), statement.into());
        blocking(move || servers.sql(NAME, &statement)).await
    }

    /// Does something with the servers that blocks.
    pub(crate) async fn with_servers<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Servers) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let servers = Arc::clone(&self.servers);
        blocking(move || work(&servers)).await
    }

    /// The minutes by which a process's clock is off from now on.
    pub(crate) fn set_clock(&self, at: ProcessIndex, minutes: i64) -> Result<()> {
        // The library reads the file while it is written: the rename makes that one step.
        let (file, new) = (self.clock(at), self.clocks.join(format!("{at}.new")));
        fs::write(&new, format!("{minutes:+}m\n"))?;
        fs::rename(&new, &file).with_context(|| format!("setting {}", file.display()))
    }

    fn clock(&self, at: ProcessIndex) -> PathBuf {
        self.clocks.join(PROCESSES[at].name)
    }

    /// The command that runs a process behind its proxies.
    pub(crate) async fn command(&self, at: ProcessIndex) -> Result<Command> {
        let role = PROCESSES[at].role;
        let mut command = self.installation.command(&[role]);
        for (name, url, link) in [
            ("FANFARE_DATABASE_URL", self.installation.database_url(role), Link::Database(at)),
            ("FANFARE_AMQP_URL", self.installation.amqp_url(role), Link::Broker(at)),
        ] {
            let url = url.with_context(|| format!("{name} is not set"))?;
            command.env(name, through(&url, self.proxy(link).await?.addr()));
        }
        if has_own_clock(at) {
            command.envs(blocking(|| faketime::envs("+0")).await?);
            command
                .env_remove("FAKETIME")
                .env("FAKETIME_TIMESTAMP_FILE", self.clock(at))
                .env("FAKETIME_CACHE_DURATION", "1");
        }
        Ok(command)
    }
}

/// The profile of the binary: the same as that of this program.
fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// The same URL with another server.
fn through(url: &str, addr: SocketAddr) -> String {
    let (before, rest) = url.split_once('@').unwrap_or(("", url));
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    format!("{before}@{addr}{path}")
}

/// Runs what blocks apart from the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("what ran apart has panicked")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_through_a_proxy() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(through("amqp://u:p@10.0.0.1:5672/v", addr), "amqp://u:p@127.0.0.1:9/v");
    }
}
