//! The addresses of the servers, and the means to create and drop databases and virtual hosts.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::programs;
use crate::roles::{self, Permission};

/// The deletion of a virtual host's queues may take a while.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// Addresses of a PostgreSQL and a RabbitMQ, with the right to create things there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// A URL of the database server; its path is replaced.
    pub(crate) database: String,
    /// A URL of the broker; its path is replaced.
    pub(crate) amqp: String,
    pub(crate) control: Control,
    pub(crate) psql: PathBuf,
}

/// The ways to break a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Its leader and its data are gone: the broker refuses every operation on it.
    Dead,
    /// Its leader does not answer.
    Silent,
}

/// The ways to create virtual hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Control {
    /// Over a port that our own node listens on: `control.erl`.
    Port { port: u16, password: String },
    /// By a command that stands for `rabbitmqctl`, its words.
    Command { words: Vec<String> },
}

impl Endpoints {
    /// The endpoints of servers that run already, from their URLs.
    ///
    /// `rabbitmqctl` is the command that administers the broker, words separated by spaces.
    pub(crate) fn of_running(database: String, amqp: String, rabbitmqctl: &str) -> Result<Self> {
        let words = rabbitmqctl.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            database,
            amqp,
            control: Control::Command { words },
            psql: programs::find_psql()?,
        })
    }

    /// The URL of the database `name`.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        with_path(&self.database, name)
    }

    /// The URL of the virtual host `vhost`.
    #[must_use]
    pub fn amqp_url(&self, vhost: &str) -> String {
        with_path(&self.amqp, vhost)
    }

    /// The broker's address, if its URL has one in numbers, as that of servers started here has.
    #[must_use]
    pub fn broker_addr(&self) -> Option<SocketAddr> {
        address_of(&self.amqp)
    }

    /// The database server's address, under the same condition.
    #[must_use]
    pub fn database_addr(&self) -> Option<SocketAddr> {
        address_of(&self.database)
    }

    /// Creates an empty database, which the [roles] may use.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.copy_database("template0", name)
    }

    /// Creates a database as a copy of another one, which must have no connections.
    pub(crate) fn copy_database(&self, template: &str, name: &str) -> Result<()> {
        check_name(name)?;
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .and_then(|_| self.sql(name, roles::DATABASE))
            .with_context(|| format!("creating the database {name}"))?;
        Ok(())
    }

    /// Creates the database's [roles] if they are missing.
    pub(crate) fn create_roles(&self) -> Result<()> {
        let passwords = roles::passwords(roles::password_of(&self.database));
        // One process at a time, where several share a server.
        let statement =
            format!("begin; select pg_advisory_xact_lock(1); {} {passwords} commit", roles::ROLES);
        self.sql("postgres", &statement).context("creating the database's roles")?;
        Ok(())
    }

    /// Drops a database and closes its connections. A missing database is no error.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .with_context(|| format!("dropping the database {name}"))?;
        Ok(())
    }

    /// Creates an empty virtual host. The user of [`amqp_url`](Self::amqp_url) has all rights in it,
    /// the [roles] have theirs.
    pub fn create_vhost(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let created = match &self.control {
            Control::Port { port, password } => ask(*port, password, &format!("add {name}"))
                .and_then(|()| {
                    let users = roles::broker_permissions()?;
                    users.iter().try_for_each(|user| ask(*port, password, &let_in(user, name)))
                }),
            Control::Command { words } => {
                let user = user_of(&self.amqp);
                run(words, &["add_vhost", name])
                    .and_then(|()| {
                        run(words, &["set_permissions", "-p", name, user, ".*", ".*", ".*"])
                    })
                    .and_then(|()| run(words, &["eval", &self.let_all_in(name)?]))
            }
        };
        created.with_context(|| format!("creating the virtual host {name}"))
    }

    /// In Erlang, since a command for each user and right would take seconds.
    fn let_all_in(&self, vhost: &str) -> Result<String> {
        let password = roles::password_of(&self.amqp);
        let module = "rabbit_auth_backend_internal";
        let one = |it: &Permission| {
            let Permission { user, configure, write, read } = it;
            let [configure, write, read] =
                [configure, write, read].map(|words| words.replace('\\', "\\\\"));
            format!(
                "catch {module}:add_user(<<\"{user}\">>, <<\"{password}\">>, <<\"testkit\">>), \
                 ok = {module}:set_permissions(<<\"{user}\">>, <<\"{vhost}\">>, \
                 <<\"{configure}\">>, <<\"{write}\">>, <<\"{read}\">>, <<\"testkit\">>)"
            )
        };
        let all: Vec<String> = roles::broker_permissions()?.iter().map(one).collect();
        Ok(format!("{}.", all.join(", ")))
    }

    /// Drops a virtual host with all its queues, and closes its connections.
    pub fn drop_vhost(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let dropped = match &self.control {
            Control::Port { port, password } => ask(*port, password, &format!("drop {name}")),
            Control::Command { words } => run(words, &["delete_vhost", name]),
        };
        dropped.with_context(|| format!("dropping the virtual host {name}"))
    }

    /// Evaluates Erlang expressions, in one line, inside the broker; returns the last one's value.
    pub(crate) fn evaluate(&self, expressions: &str) -> Result<String> {
        match &self.control {
            Control::Port { port, password } => {
                answer_of(*port, password, &format!("eval {expressions}"))
            }
            Control::Command { words } => output_of(words, &["eval", expressions]),
        }
    }

    /// Breaks a quorum queue of a virtual host, as a crash can do.
    pub fn break_queue(&self, vhost: &str, queue: &str, how: Break) -> Result<()> {
        check_name(vhost)?;
        let server = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, \
             <<\"{queue}\">>)), Server = amqqueue:get_pid(Q)"
        );
        let break_it = match how {
            Break::Dead => "ra:force_delete_server(quorum_queues, Server)",
            Break::Silent => "sys:suspend(element(1, Server))",
        };
        self.evaluate(&format!("{server}, {break_it}."))
            .map(drop)
            .with_context(|| format!("breaking the queue {queue}"))
    }

    /// Sets a policy for the exchanges and queues whose names match `pattern`, in place of an earlier
    /// one of that name. `definition` is Erlang's, such as `{<<"message-ttl">>, 1000}`.
    pub fn set_policy(
        &self,
        vhost: &str,
        name: &str,
        pattern: &str,
        definition: &str,
    ) -> Result<()> {
        check_name(vhost)?;
        self.evaluate(&format!(
            "ok = rabbit_policy:set(<<\"{vhost}\">>, <<\"{name}\">>, <<\"{pattern}\">>, \
             [{definition}], 100, <<\"all\">>, <<\"testkit\">>)."
        ))
        .map(drop)
        .with_context(|| format!("setting the policy {name}"))
    }

    /// Removes a policy.
    pub fn clear_policy(&self, vhost: &str, name: &str) -> Result<()> {
        check_name(vhost)?;
        self.evaluate(&format!(
            "ok = rabbit_policy:delete(<<\"{vhost}\">>, <<\"{name}\">>, <<\"testkit\">>)."
        ))
        .map(drop)
        .with_context(|| format!("clearing the policy {name}"))
    }

    /// Closes every connection to a virtual host, as an operator or a load balancer may.
    /// (Connections to other virtual hosts may end while they are inspected.)
    pub fn close_connections(&self, vhost: &str) -> Result<()> {
        check_name(vhost)?;
        self.evaluate(&format!(
            "[catch rabbit_networking:close_connection(Pid, \"closed by a test\") \
             || Pid <- rabbit_networking:connections(), \
             [{{vhost, <<\"{vhost}\">>}}] == (catch rabbit_networking:connection_info(Pid, [vhost]))]."
        ))
        .map(drop)
        .context("closing connections")
    }

    /// Limits quorum queues whose names match `pattern` to `length` messages; they refuse all
    /// further messages.
    pub fn limit_queues(&self, vhost: &str, pattern: &str, length: u32) -> Result<()> {
        let limit = format!(
            "{{<<\"max-length\">>, {length}}}, {{<<\"overflow\">>, <<\"reject-publish\">>}}"
        );
        self.set_policy(vhost, "limit", pattern, &limit)
    }

    /// Removes the limit.
    pub fn unlimit_queues(&self, vhost: &str) -> Result<()> {
        self.clear_policy(vhost, "limit")
    }

    /// Limits what a user of a virtual host may configure there; the user may read and write
    /// everything.
    pub fn let_configure(&self, vhost: &str, user: &str, pattern: &str) -> Result<()> {
        check_name(vhost)?;
        let pattern = pattern.replace('\\', "\\\\");
        self.evaluate(&format!(
            "ok = rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"{vhost}\">>, \
             <<\"{pattern}\">>, <<\".*\">>, <<\".*\">>, <<\"testkit\">>)."
        ))
        .map(drop)
        .with_context(|| format!("giving {user} its permissions"))
    }

    /// Runs one statement in `database` and returns its rows as text, columns separated by `|`.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new(&self.psql)
            .args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"])
            .args(["--dbname", &self.database_url(database), "--command", statement])
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.psql.display()))?;
        ensure!(
            output.status.success(),
            "psql failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Whether both servers answer, and are those of these endpoints.
    pub(crate) fn answer(&self) -> bool {
        self.broker_answers() && self.sql("postgres", "SELECT 1").is_ok()
    }

    /// Whether the broker has finished its start.
    pub(crate) fn broker_answers(&self) -> bool {
        match &self.control {
            Control::Port { port, password } => ask(*port, password, "ping").is_ok(),
            Control::Command { words } => run(words, &["await_startup"]).is_ok(),
        }
    }
}

/// The line that gives a user its rights in a virtual host.
fn let_in(it: &Permission, vhost: &str) -> String {
    let Permission { user, configure, write, read } = it;
    format!("user {user} {vhost} {configure} {write} {read}")
}

/// Sends one line to the broker's control port.
fn ask(port: u16, password: &str, command: &str) -> Result<()> {
    answer_of(port, password, command).map(drop)
}

/// The same; returns the value that is answered.
fn answer_of(port: u16, password: &str, command: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, CONTROL_TIMEOUT)?;
    stream.set_read_timeout(Some(CONTROL_TIMEOUT))?;
    writeln!(stream, "{password} {command}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim_end() {
        "" => bail!("the broker closed the control connection"),
        "ok" => Ok(String::new()),
        other => match other.strip_prefix("ok ") {
            Some(value) => Ok(value.to_owned()),
            None => bail!("the broker answered {other}"),
        },
    }
}

fn run(words: &[String], arguments: &[&str]) -> Result<()> {
    output_of(words, arguments).map(drop)
}

fn output_of(words: &[String], arguments: &[&str]) -> Result<String> {
    let (program, first) = words.split_first().context("the command for rabbitmqctl is empty")?;
    let output = Command::new(program)
        .args(first)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!("running {program} (FANFARE_TEST_RABBITMQCTL names another one)")
        })?;
    ensure!(
        output.status.success(),
        "{} {} failed: {}",
        words.join(" "),
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Names are put into statements and commands without escaping.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    ensure!(
        name.starts_with(|it: char| it.is_ascii_lowercase()) && name.chars().all(is_plain),
        "the name {name:?} is not made of lower-case letters, digits, and underscores"
    );
    Ok(())
}

/// Replaces the path of a URL and keeps its query.
fn with_path(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(it, query)| (it, Some(query)));
    let host_at = address.find("://").map_or(0, |at| at + 3);
    let host_end = address[host_at..].find('/').map_or(address.len(), |at| host_at + at);
    let host = &address[..host_end];
    query.map_or_else(|| format!("{host}/{name}"), |query| format!("{host}/{name}?{query}"))
}

fn address_of(url: &str) -> Option<SocketAddr> {
    let (_, address) = url.split_once("://")?;
    let authority = address.split(['/', '?']).next()?;
    authority.rsplit('@').next()?.parse().ok()
}

/// The user of a URL; RabbitMQ's own default when it has none.
fn user_of(url: &str) -> &str {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = address.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, _)) => credentials.split(':').next().unwrap_or_default(),
        None => "guest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_path() {
        for (url, expected) in [
            ("postgres://u:p@127.0.0.1:5432", "postgres://u:p@127.0.0.1:5432/name"),
            (
                "postgres://u:p@host/postgres?sslmode=require",
                "postgres://u:p@host/name?sslmode=require",
            ),
            ("amqp://host/%2f", "amqp://host/name"),
            ("amqp://host?heartbeat=5", "amqp://host/name?heartbeat=5"),
        ] {
            assert_eq!(with_path(url, "name"), expected);
        }
    }

    #[test]
    fn finds_the_user() {
        assert_eq!(user_of("amqp://anna:s@host:5672/%2f"), "anna");
        assert_eq!(user_of("amqp://host/%2f"), "guest");
    }

    #[test]
    fn refuses_names_that_could_do_harm() {
        for name in ["", "1a", "a b", "a;", "A", "a-b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("test_0a").is_ok());
    }
}
