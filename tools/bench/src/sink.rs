//! The sink: an HTTP/1.1 server that receives POSTs and counts them, and is never the bottleneck.
//!
//! It is one process with one thread for the network. From a request it parses the path, the length
//! and the stamp near the beginning of the body; the rest of the body is read and discarded. A path
//! is `/MANNER/GROUP/HOOK`: the kind of answer, the name of the group to count for, and the
//! webhook.
//!
//! [`connection`] implements HTTP, [`tally`] counts, and the main thread in this module answers
//! commands.

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

/// The number of ports that the sink listens on, so that webhooks have different addresses.
const N_PORTS: usize = 16;

/// A command for the sink.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Ports,
    Reset,
    /// Forget times, but not the events that have arrived.
    Mark,
    /// Begin or end the storm: whether hooks of the manners `storm` and `reject` are refused.
    Storm(bool),
    /// Let the gateway of a group fail in this manner.
    Fail {
        group: String,
        manner: Manner,
    },
    /// Return the counts of a group.
    Report(String),
}

/// An answer of the sink.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Ports {
        /// The ports that accept connections.
        open: Vec<u16>,
        /// A port that refuses connections.
        closed: u16,
    },
    /// The counts of a group.
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
        // If the network fails before it starts, the receiver gets an error.
        if let Err(error) = network(&for_network, &sender) {
            eprintln!("{error:#}");
        }
    });
    let (open, closed) = receiver.recv().context("the network did not start")?;
    crate::wire::serve(|command| {
        Ok(match command {
            Command::Ports => Answer::Ports { open: open.clone(), closed },
            Command::Reset => {
                *lock(&tally) = Tally::default();
                Answer::Done
            }
            Command::Mark => {
                lock(&tally).mark();
                Answer::Done
            }
            Command::Storm(is_on) => {
                lock(&tally).is_stormy = is_on;
                Answer::Done
            }
            Command::Fail { group, manner } => {
                lock(&tally).failed.insert(group, manner);
                Answer::Done
            }
            Command::Report(group) => Answer::Seen(lock(&tally).report(&group)),
        })
    })
}

/// Serves the network on one thread, which avoids contention and uses at most one core.
fn network(tally: &Shared, started: &mpsc::Sender<(Vec<u16>, u16)>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ports = Vec::new();
        for _ in 0..N_PORTS {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            ports.push(listener.local_addr()?.port());
            tokio::spawn(accept(listener, Arc::clone(tally)));
        }
        // A socket that is bound and does not listen refuses connections, and reserves the port.
        let closed = TcpSocket::new_v4()?;
        closed.bind(([127, 0, 0, 1], 0).into())?;
        started.send((ports, closed.local_addr()?.port()))?;
        std::future::pending().await
    })
}

/// Raises the limit on open files, because a worker may open more connections than the default
/// allows.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    // If the limit can't be raised, the default has to suffice.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn accept(listener: TcpListener, tally: Shared) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let tally = Arc::clone(&tally);
                tokio::spawn(async move {
                    // An error means that the client closed the connection.
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

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
