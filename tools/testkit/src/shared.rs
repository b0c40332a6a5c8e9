//! Servers that all processes of a test run share: the first one starts them.
//!
//! Each process that uses them holds a shared lock on a file, which the system releases however the
//! process ends. A keeper outside of all of them takes the same lock exclusively once the last
//! holder has been gone for a while, and then ends the servers (see `keeper.sh`). So no server is
//! left behind, and one test after another, each in a process of its own, finds the servers
//! running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::build::workspace;
use crate::endpoints::Endpoints;
use crate::servers::Servers;
use crate::tree::Tree;

/// Long enough for a runner's next process, short enough to leave a machine clean.
const LINGER: Duration = Duration::from_secs(10);

/// A share in the servers; they live at least as long as it.
#[derive(Debug)]
pub struct Shared {
    endpoints: Endpoints,
    /// None for servers that the tests must not end.
    _lock: Option<File>,
}

/// The state that the processes share in a file.
#[derive(Serialize, Deserialize)]
struct State {
    folder: PathBuf,
    endpoints: Endpoints,
}

impl Shared {
    /// Joins the servers of this workspace's tests, or starts them. Blocks for as long as that takes.
    ///
    /// With `FANFARE_TEST_DATABASE_URL` and `FANFARE_TEST_AMQP_URL` set, those servers are used.
    /// Virtual hosts are then made by the command in `FANFARE_TEST_RABBITMQCTL`, or `rabbitmqctl`.
    pub fn join() -> Result<Self> {
        match (variable("FANFARE_TEST_DATABASE_URL"), variable("FANFARE_TEST_AMQP_URL")) {
            (Some(database), Some(amqp)) => {
                let rabbitmqctl = variable("FANFARE_TEST_RABBITMQCTL");
                let rabbitmqctl = rabbitmqctl.as_deref().unwrap_or("rabbitmqctl");
                let endpoints = Endpoints::of_running(database, amqp, rabbitmqctl)?;
                endpoints.create_roles()?;
                Ok(Self { endpoints, _lock: None })
            }
            (None, None) => Self::join_in(&folder_of_workspace(), LINGER),
            _ => bail!("set both FANFARE_TEST_DATABASE_URL and FANFARE_TEST_AMQP_URL, or neither"),
        }
    }

    /// The addresses of the servers.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Joins or starts the servers of `folder`, which end `linger` after the last holder.
    fn join_in(folder: &Path, linger: Duration) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        // One process at a time reads the state and, if necessary, starts the servers.
        let turn = lock_file(&folder.join("start.lock"))?;
        turn.lock().context("waiting for another process to start the servers")?;
        let holders_file = folder.join("holders.lock");
        let holders = lock_file(&holders_file)?;
        holders.lock_shared().context("waiting for old servers to end")?;

        let state_file = folder.join("state.json");
        let running = read_state(&state_file).filter(|state| state.endpoints.answer());
        let endpoints = match running {
            Some(state) => state.endpoints,
            None => start(folder, &holders_file, linger, &state_file)?,
        };
        Ok(Self { endpoints, _lock: Some(holders) })
    }
}

/// The servers that this process shares with the other test processes, until it ends.
///
/// The first call in a process blocks until they answer.
///
/// # Panics
///
/// If they can't be started or found, with the reason.
pub fn endpoints() -> &'static Endpoints {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    match SHARED.get_or_init(|| Shared::join().map_err(|error| format!("{error:#}"))) {
        Ok(shared) => shared.endpoints(),
        Err(error) => panic!("no servers to test with: {error}"),
    }
}

fn start(dir: &Path, holders: &Path, linger: Duration, state_file: &Path) -> Result<Endpoints> {
    let servers = Servers::start_for_holders(dir, holders, linger, state_file)?;
    let (folder, endpoints) = servers.leave();
    let state = State { folder, endpoints };
    // Written to another file and moved, so that no process reads half of it.
    let draft = state_file.with_extension("draft");
    fs::write(&draft, serde_json::to_vec_pretty(&state)?)?;
    fs::rename(&draft, state_file)?;
    Ok(state.endpoints)
}

fn read_state(file: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Opens a file to be locked.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// The folder that the processes of this workspace's tests share. Each version of the servers has
/// one.
pub(crate) fn folder_of_workspace() -> PathBuf {
    workspace().join(format!("target/testkit{}", Tree::selected().suffix()))
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.into_string().ok()?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::env::temp_dir;

    use uuid::Uuid;

    use super::*;
    use crate::wait::eventually;

    /// How long the servers of these tests wait for another holder.
    const SHORT: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn servers_end_after_their_last_holder() {
        let folder = temp_dir().join(format!("fanfare-shared-{}", Uuid::new_v4().simple()));
        let first = Shared::join_in(&folder, SHORT).unwrap();
        let second = Shared::join_in(&folder, SHORT).unwrap();
        assert_eq!(first.endpoints().database, second.endpoints().database);

        let servers = read_state(&folder.join("state.json")).unwrap().folder;
        let ids = pids(&servers);
        assert_eq!(ids.len(), 3, "PostgreSQL, RabbitMQ, and epmd");
        drop(first);
        assert!(second.endpoints().answer(), "a holder is left");

        drop(second);
        eventually("all is gone", Duration::from_secs(20), async || {
            let left: Vec<_> = ids.iter().filter(|id| is_running(**id)).collect();
            let is_gone =
                left.is_empty() && !servers.exists() && !folder.join("state.json").exists();
            if is_gone { Ok(()) } else { Err(format!("{left:?} run")) }
        })
        .await;
        fs::remove_dir_all(folder).unwrap();
    }

    fn pids(servers: &Path) -> Vec<u32> {
        let files = fs::read_dir(servers.join("pids")).unwrap();
        files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .map(|text| text.split_whitespace().nth(1).unwrap().parse().unwrap())
            .collect()
    }

    /// An ended child of this process keeps its entry, without a working directory.
    fn is_running(id: u32) -> bool {
        fs::read_link(format!("/proc/{id}/cwd")).is_ok()
    }
}
