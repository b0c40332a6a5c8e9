//! A private RabbitMQ node, with an epmd of its own or that of the node that it joins.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::endpoints::Endpoints;
use crate::programs::Programs;

const CONTROL: &str = include_str!("control.erl");
const CONF: &str = "rabbitmq.conf";
const COOKIE: &str = ".erlang.cookie";

/// Erlang's schedulers spin for a while before they sleep, which suits a dedicated machine. Here
/// they would take the processor from the processes for which they wait.
const NO_BUSY_WAIT: &str = "+sbwt none +sbwtdcpu none +sbwtdio none";

/// A node that recovers its queues on a busy machine is slow.
const START_PATIENCE: Duration = Duration::from_mins(4);
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// The ports of one node, all on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    /// The port of `control.erl`.
    pub(crate) control: u16,
    /// Erlang's distribution: a node needs it for its name, also when it is alone.
    pub(crate) distribution: u16,
    pub(crate) epmd: u16,
}

/// The node's files, and its processes while it runs.
pub(crate) struct RabbitMq {
    programs: Programs,
    folder: PathBuf,
    /// The name of its files and of its process.
    name: String,
    home: PathBuf,
    ports: Ports,
    epmd: Option<Daemon>,
    node: Option<Daemon>,
}

impl RabbitMq {
    /// The name of the administrator.
    pub(crate) const USER: &str = "fanfare";

    /// Writes the configuration of a node with no data and no plugins.
    pub(crate) fn create(
        programs: &Programs,
        folder: &Path,
        ports: Ports,
        password: &str,
    ) -> Result<Self> {
        Self::write(programs, folder, "rabbitmq".to_owned(), ports, password)
    }

    /// Writes the configuration of a node that joins this one, which has run before, when it starts.
    /// It needs this one's epmd.
    pub(crate) fn create_peer(&self, name: &str, ports: Ports, password: &str) -> Result<Self> {
        let name = format!("{}-{name}", self.name);
        let peer = Self::write(&self.programs, &self.folder, name, ports, password)?;
        let conf = fs::read_to_string(peer.home.join(CONF))?;
        let conf = format!(
            "{conf}cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.classic_config.nodes.1 = {}\n\
             cluster_formation.classic_config.nodes.2 = {}\n",
            self.node_name(),
            peer.node_name(),
        );
        fs::write(peer.home.join(CONF), conf)?;
        // Nodes of a cluster trust each other by it. The copy keeps its mode.
        fs::copy(self.home.join(COOKIE), peer.home.join(COOKIE)).context("copying the cookie")?;
        Ok(peer)
    }

    fn write(
        programs: &Programs,
        folder: &Path,
        name: String,
        ports: Ports,
        password: &str,
    ) -> Result<Self> {
        let home = folder.join(&name);
        fs::create_dir(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let user = Self::USER;
        let amqp = ports.amqp;
        fs::write(
            home.join(CONF),
            // RabbitMQ 4 refuses messages of more than 16 MiB by default; this is the default of earlier
            // versions, for tests with large ones. The last two are those of
            // docs/high-availability.md. They change nothing for a node that is alone.
            format!(
                "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
                 default_user = {user}\n\
                 default_pass = {password}\n\
                 disk_free_limit.absolute = 50MB\n\
                 max_message_size = 134217728\n\
                 cluster_partition_handling = pause_minority\n\
                 net_ticktime = 6\n"
            ),
        )?;
        fs::write(home.join("enabled_plugins"), "[].\n")?;
        // It replaces the machine's own file, which would be read otherwise.
        fs::write(home.join("rabbitmq-env.conf"), "")?;
        let control = CONTROL
            .replace("@PORT@", &ports.control.to_string())
            .replace("@USER@", user)
            .replace("@PASSWORD@", password);
        fs::write(home.join("control.erl"), control)?;
        let (programs, folder) = (programs.clone(), folder.to_path_buf());
        Ok(Self { programs, folder, name, home, ports, epmd: None, node: None })
    }

    /// Starts the node and waits until it takes connections.
    pub(crate) fn start(&mut self, endpoints: &Endpoints) -> Result<()> {
        if self.node.is_some() {
            return Ok(());
        }
        if self.epmd.is_none() && !self.is_peer() {
            self.epmd = Some(self.spawn_epmd()?);
        }
        let mut node = Daemon::spawn(self.node_command(), &self.folder, &self.name, "KILL")?;
        node.wait_until(START_PATIENCE, || endpoints.broker_answers())
            .context("starting RabbitMQ")?;
        self.node = Some(node);
        Ok(())
    }

    /// Stops the node in order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Stops the node as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Stops the node's processing without ending it, or continues it.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.node.as_mut().context("the node does not run")?.signal(signal)
    }

    /// Its name in Erlang's distribution.
    pub(crate) fn node_name(&self) -> String {
        format!("fanfare-{}@localhost", self.ports.amqp)
    }

    /// The port of the epmd that knows it.
    pub(crate) fn epmd_port(&self) -> u16 {
        self.ports.epmd
    }

    fn is_peer(&self) -> bool {
        self.name != "rabbitmq"
    }

    /// Removes the node's data. The node must not run.
    pub(crate) fn remove_data(&self) -> Result<()> {
        fs::remove_dir_all(self.home.join("data")).context("removing RabbitMQ's data")
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.node.iter().chain(&self.epmd).map(Daemon::id)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        node.end(signal, STOP_PATIENCE).context("stopping RabbitMQ")?;
        Ok(())
    }

    /// Erlang would start an epmd itself, as a daemon that would stay behind.
    fn spawn_epmd(&self) -> Result<Daemon> {
        let mut command = self.command(&self.programs.epmd);
        command.args(["-address", "127.0.0.1", "-port", &self.ports.epmd.to_string()]);
        Daemon::spawn(command, &self.folder, "epmd", "KILL")
    }

    fn node_command(&self) -> Command {
        let in_home = |name: &str| self.home.join(name);
        let mut command = self.command(&self.programs.rabbitmq_server);
        command
            // The script then becomes the node, instead of standing between it and our signals.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .arg("-noinput")
            .env("RABBITMQ_NODENAME", self.node_name())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", in_home("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", in_home(CONF))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", in_home("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", in_home("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", in_home("data"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", in_home("generated"))
            .env("RABBITMQ_PID_FILE", in_home("node.pid"))
            .env("RABBITMQ_LOG_BASE", in_home("log"))
            // The script splits this at spaces, so that the evaluated expression can't have any;
            // its file is found because the node runs in its home.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!(
                    "{NO_BUSY_WAIT} -kernel inet_dist_use_interface {{127,0,0,1}} \
                     -eval file:eval(\"control.erl\")"
                ),
            );
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = self.programs.command(program, None);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            // Erlang keeps its cookie there.
            .env("HOME", &self.home)
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .current_dir(&self.home);
        command
    }
}
