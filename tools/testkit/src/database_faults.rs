//! What an operator or a machine does to a database that runs.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::endpoints::Endpoints;

/// The sessions of clients of a database, but for the one that asks.
const CLIENTS: &str = "from pg_stat_activity where backend_type = 'client backend' \
                       and pid <> pg_backend_pid() and datname =";

impl Endpoints {
    /// Ends the sessions of a database, as an operator or a failover does.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub fn terminate_backends(&self, database: &str) -> Result<()> {
        let terminate = format!("select count(pg_terminate_backend(pid)) {CLIENTS} '{database}'");
        self.sql("postgres", &terminate).context("ending the database's sessions")?;
        Ok(())
    }

    /// Kills one server process of a database, if it has a session. PostgreSQL then ends all
    /// sessions and recovers, since the process may have left its shared memory broken.
    ///
    /// The server must be one that runs on this machine, and may be killed by this process.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or the process can't be killed.
    pub fn kill_backend(&self, database: &str) -> Result<()> {
        let one = format!("select pid {CLIENTS} '{database}' order by random() limit 1");
        let pid = self.sql("postgres", &one).context("choosing a server process")?;
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).context("killing a server process")?;
        }
        Ok(())
    }

    /// Decides whether new transactions may write.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let on = if read_only { "on" } else { "off" };
        let set = format!("alter system set default_transaction_read_only = {on}");
        self.sql("postgres", &set)
            .and_then(|_| self.sql("postgres", "select pg_reload_conf()"))
            .with_context(|| format!("turning the database's read-only mode {on}"))?;
        Ok(())
    }
}
