//! A PostgreSQL and a RabbitMQ that belong to one owner, who may stop, kill, and wipe them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::endpoints::{Control, Endpoints};
use crate::keeper::{self, Keeper};
use crate::mutex::hold;
use crate::pooler::Pooler;
use crate::ports::free_ports;
use crate::postgres::Postgres;
use crate::programs::{self, Programs};
use crate::rabbitmq::{Ports, RabbitMq};
use crate::roles;

/// Running servers. All methods block; in asynchronous code call them where that is allowed, such as
/// `tokio::task::spawn_blocking`.
///
/// Dropping them ends the servers and removes their data, and so does the end of this process,
/// even by SIGKILL.
pub struct Servers {
    folder: PathBuf,
    endpoints: Endpoints,
    vhosts: Mutex<Vec<String>>,
    postgres: Mutex<Postgres>,
    rabbitmq: Mutex<RabbitMq>,
    /// None for servers that the holders of a lock share: theirs outlives this process.
    keeper: Option<Keeper>,
}

impl Servers {
    /// Starts both servers with no data, in a new folder under `dir`, and waits until they answer.
    ///
    /// PostgreSQL's commits reach the disk. Missing programs are installed where that is
    /// possible. If `dir` is closed to other users and this process is root, the folder is made in
    /// the system's folder for temporary files instead, because PostgreSQL does not run as root.
    pub fn start(dir: &Path) -> Result<Self> {
        let folder = make_folder(dir)?;
        let keeper = Keeper::of_owner(&folder)?;
        let mut servers = start_in(folder, true)?;
        servers.keeper = Some(keeper);
        Ok(servers)
    }

    /// Starts servers that live for as long as anyone holds `lock`, and `linger` longer.
    /// `state` is removed with them. Nothing that PostgreSQL writes is forced to the disk.
    pub(crate) fn start_for_holders(
        dir: &Path,
        lock: &Path,
        linger: Duration,
        state: &Path,
    ) -> Result<Self> {
        let folder = make_folder(dir)?;
        keeper::keep_for_holders(&folder, lock, linger, state)?;
        start_in(folder, false)
    }

    /// The addresses of the servers, which threads and processes can share.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The folder that holds all of the servers' files, logs too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of the database `name`.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        self.endpoints.database_url(name)
    }

    /// The URL of the virtual host `vhost`.
    #[must_use]
    pub fn amqp_url(&self, vhost: &str) -> String {
        self.endpoints.amqp_url(vhost)
    }

    /// Creates an empty database.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.endpoints.create_database(name)
    }

    /// Drops a database and closes its connections.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.endpoints.drop_database(name)
    }

    /// Creates an empty virtual host. It comes back, empty, when the broker is wiped.
    pub fn create_vhost(&self, name: &str) -> Result<()> {
        self.endpoints.create_vhost(name)?;
        hold(&self.vhosts).push(name.to_owned());
        Ok(())
    }

    /// Drops a virtual host with all its queues, and closes its connections.
    pub fn drop_vhost(&self, name: &str) -> Result<()> {
        hold(&self.vhosts).retain(|it| it != name);
        self.endpoints.drop_vhost(name)
    }

    /// Stops RabbitMQ in order.
    pub fn stop_broker(&self) -> Result<()> {
        hold(&self.rabbitmq).stop()
    }

    /// Ends RabbitMQ as a crash would.
    pub fn kill_broker(&self) -> Result<()> {
        hold(&self.rabbitmq).kill()
    }

    /// Starts RabbitMQ again on the same port with the data it had, and waits until it answers.
    pub fn start_broker(&self) -> Result<()> {
        hold(&self.rabbitmq).start(&self.endpoints)
    }

    /// Ends RabbitMQ by a crash, removes its data, and starts it again with empty virtual hosts.
    pub fn wipe_broker(&self) -> Result<()> {
        {
            let mut broker = hold(&self.rabbitmq);
            broker.kill()?;
            broker.remove_data()?;
            broker.start(&self.endpoints)?;
        }
        hold(&self.vhosts).iter().try_for_each(|name| self.endpoints.create_vhost(name))
    }

    /// Stops PostgreSQL in order: sessions are ended.
    pub fn stop_database(&self) -> Result<()> {
        hold(&self.postgres).stop()
    }

    /// Ends PostgreSQL as a crash would.
    pub fn kill_database(&self) -> Result<()> {
        hold(&self.postgres).kill()
    }

    /// Starts PostgreSQL again on the same port with the data it had, and waits until it answers.
    pub fn start_database(&self) -> Result<()> {
        hold(&self.postgres).start()
    }

    /// Runs one statement in a database and returns its rows as text, columns separated by `|`.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        self.endpoints.sql(database, statement)
    }

    /// Starts a second PostgreSQL that follows the first one, and takes its place when it is
    /// [promoted](Standby::promote). It ends with these servers.
    pub fn start_standby(&self) -> Result<Standby> {
        let [port] = free_ports()?;
        let mut server = hold(&self.postgres).standby(&self.endpoints.database, port)?;
        server.start()?;
        let mut endpoints = self.endpoints.clone();
        let first = format!("127.0.0.1:{}", hold(&self.postgres).port);
        endpoints.database = endpoints.database.replace(&first, &format!("127.0.0.1:{port}"));
        Ok(Standby { endpoints, server })
    }

    /// Makes a cluster of three nodes out of the broker. It ends with these servers.
    pub fn start_cluster(&self) -> Result<Cluster<'_>> {
        let password = roles::password_of(&self.endpoints.amqp);
        Cluster::start(&self.rabbitmq, &self.endpoints, password)
    }

    /// Starts a `PgBouncer` before the database. It ends with these servers.
    ///
    /// `settings` are lines for its section of settings, such as `pool_mode = session`.
    pub fn start_pooler(&self, settings: &str) -> Result<Pooler> {
        let [port] = free_ports()?;
        Pooler::start(&self.folder, &self.endpoints, port, settings)
    }

    /// Ends both servers at once and removes their data, as dropping them does.
    pub fn stop(self) {
        drop(self);
    }

    /// The processes that run now: the servers' main ones and their keeper.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = hold(&self.rabbitmq).ids().collect();
        ids.extend(hold(&self.postgres).id());
        ids.extend(self.keeper.as_ref().map(Keeper::id));
        ids
    }

    /// Leaves the servers to the holders of their lock.
    pub(crate) fn leave(self) -> (PathBuf, Endpoints) {
        (self.folder.clone(), self.endpoints.clone())
    }
}

/// A PostgreSQL that follows another one.
pub struct Standby {
    endpoints: Endpoints,
    server: Postgres,
}

impl Standby {
    /// Its URL of the database `name`.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        self.endpoints.database_url(name)
    }

    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.endpoints.database_addr()
    }

    /// Makes it a server of its own, which takes writes, and waits until it is.
    pub fn promote(&self) -> Result<()> {
        self.endpoints.sql("postgres", "select pg_promote()").map(drop)
    }

    /// Runs one statement in a database there.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        self.endpoints.sql(database, statement)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // Should this fail, the keeper ends it.
        let _ = self.server.kill();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The keeper ends what runs and removes the folder, and this waits for it.
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        drop(keeper);
        // Collects the processes that have ended.
        let _ = hold(&self.postgres).kill();
        let _ = hold(&self.rabbitmq).kill();
    }
}

/// Makes the servers' own folder, where PostgreSQL's user can reach it.
pub(crate) fn make_folder(dir: &Path) -> Result<PathBuf> {
    let attempt = || -> Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let dir = fs::canonicalize(dir)?;
        let must_be_open = rustix::process::geteuid().is_root();
        let dir = if must_be_open && !is_open(&dir)? { std::env::temp_dir() } else { dir };
        let folder = dir.join(format!("fanfare-servers-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder)?;
        fs::create_dir(folder.join("pids"))?;
        Ok(folder)
    };
    attempt().with_context(|| format!("making a folder for servers in {}", dir.display()))
}

/// Whether every user may pass through a folder and those above it.
fn is_open(dir: &Path) -> Result<bool> {
    for folder in dir.ancestors() {
        if fs::metadata(folder)?.mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn start_in(folder: PathBuf, is_durable: bool) -> Result<Servers> {
    let programs = programs::find_or_install()?;
    let _notice = Notice::after(Duration::from_secs(1), "starting PostgreSQL and RabbitMQ…");
    let [database, amqp, control, distribution, epmd] = free_ports()?;
    let password = Uuid::new_v4().simple().to_string();
    let ports = Ports { amqp, control, distribution, epmd };
    let endpoints = Endpoints {
        database: format!("postgres://{}:{password}@127.0.0.1:{database}", Postgres::USER),
        amqp: format!("amqp://{}:{password}@127.0.0.1:{amqp}", RabbitMq::USER),
        control: Control::Port { port: control, password: password.clone() },
        psql: programs::find_psql()?,
    };
    let (postgres, rabbitmq) = thread::scope(|scope| {
        let postgres =
            scope.spawn(|| start_postgres(&programs, &folder, database, &password, is_durable));
        let rabbitmq = start_rabbitmq(&programs, &folder, ports, &password, &endpoints);
        let postgres =
            postgres.join().unwrap_or_else(|_| Err(anyhow!("starting PostgreSQL panicked")));
        (postgres, rabbitmq)
    });
    let (postgres, rabbitmq) = (postgres?, rabbitmq?);
    endpoints.create_roles()?;
    Ok(Servers {
        folder,
        endpoints,
        vhosts: Mutex::default(),
        postgres: Mutex::new(postgres),
        rabbitmq: Mutex::new(rabbitmq),
        keeper: None,
    })
}

fn start_postgres(
    programs: &Programs,
    folder: &Path,
    port: u16,
    password: &str,
    is_durable: bool,
) -> Result<Postgres> {
    let mut server = Postgres::create(programs, folder, port, password, is_durable)?;
    server.start()?;
    Ok(server)
}

fn start_rabbitmq(
    programs: &Programs,
    folder: &Path,
    ports: Ports,
    password: &str,
    endpoints: &Endpoints,
) -> Result<RabbitMq> {
    let mut server = RabbitMq::create(programs, folder, ports, password)?;
    server.start(endpoints)?;
    Ok(server)
}

/// Prints a message to stderr if it is not dropped in time.
struct Notice {
    _until_dropped: Sender<()>,
}

impl Notice {
    fn after(delay: Duration, text: &'static str) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            if receiver.recv_timeout(delay) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{text}");
            }
        });
        Self { _until_dropped: sender }
    }
}
