//! The sink: an HTTP/1.1 server that takes POSTs and counts them, and is never the bottleneck.
//!
//! It is one process with one thread for the network. Of a request it reads the path, the length and
//! the stamp near the beginning of the body; the rest of the body is read and let go. A path is
//! `/MANNER/GROUP/HOOK`: how to answer, under which name to count, and which webhook it is.
//!
//! [`connection`] speaks HTTP, [`tally`] counts, and the main thread here answers commands.

mod connection;
mod remote;
mod tally;

pub(crate) use remote::Sink;
pub(crate) use tally::{Manner, Seen};

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};

use tally::Tally;

/// Ports that the sink listens on, so that each webhook can have an address of its own.
const N_PORTS: usize = 16;

/// What the sink can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Ports,
    Reset,
    /// Forget times, but not which events were seen.
    Mark,
    /// Whether hooks of the manner `storm` are refused from now on.
    Storm(bool),
    /// The gateway of a group answers so from now on.
    Fail {
        group: String,
        manner: Manner,
    },
    /// What was seen of a group.
    Report(String),
}

/// What the sink answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// Ports that take connections, and one that refuses them.
    Ports {
        /// They take connections.
        open: Vec<u16>,
        /// It refuses them.
        closed: u16,
    },
    /// What was seen of the group.
    Seen(Seen),
}

type Shared = Arc<Mutex<Tally>>;

/// Runs until its standard input ends.
pub(crate) fn run() -> Result<()> {
    allow_connections();
    let tally = Shared::default();
    let (sender, receiver) = mpsc::channel();
    let for_network = Arc::clone(&tally);
    thread::spawn(move || {
        // The other end waits for this, and sees an error as its absence.
        if let Err(error) = network(&for_network, &sender) {
            eprintln!("{error:#}");
        }
    });
    let (open, closed) = receiver.recv().context("the network did not start")?;
    crate::wire::serve(|command| {
        Ok(match command {
            Command::Ports => Answer::Ports { open: open.clone(), closed },
            Command::Reset => {
                *hold(&tally) = Tally::default();
                Answer::Done
            }
            Command::Mark => {
                hold(&tally).mark();
                Answer::Done
            }
            Command::Storm(is_on) => {
                hold(&tally).is_stormy = is_on;
                Answer::Done
            }
            Command::Fail { group, manner } => {
                hold(&tally).failed.insert(group, manner);
                Answer::Done
            }
            Command::Report(group) => Answer::Seen(hold(&tally).report(&group)),
        })
    })
}

/// One thread: no locks that are waited for, and no more of the machine than one core.
fn network(tally: &Shared, started: &mpsc::Sender<(Vec<u16>, u16)>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ports = Vec::new();
        for _ in 0..N_PORTS {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            ports.push(listener.local_addr()?.port());
            tokio::spawn(accept(listener, Arc::clone(tally)));
        }
        // Bound without listening, it refuses connections, and nobody else gets the port.
        let closed = TcpSocket::new_v4()?;
        closed.bind(([127, 0, 0, 1], 0).into())?;
        started.send((ports, closed.local_addr()?.port()))?;
        std::future::pending().await
    })
}

/// As many connections as the system has: a worker may hold more than a process may have by default.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    // Where it can't be raised, what there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn accept(listener: TcpListener, tally: Shared) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let tally = Arc::clone(&tally);
                tokio::spawn(async move {
                    // A client that goes away is its own affair.
                    let _ = connection::serve(stream, &tally).await;
                });
            }
            Err(error) => {
                eprintln!("accepting a connection: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

fn hold(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
