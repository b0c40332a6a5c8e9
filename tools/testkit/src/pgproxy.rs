//! A proxy that stands between a process and PostgreSQL and breaks chosen statements.
//!
//! It reads the protocol, so that a fault hits one statement and nothing else: see [`Fault`].
//! A statement is known by its [`Marker`]. TLS is declined, as by a server without it.

mod connection;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use connection::{Shared, accept};

use crate::mutex::hold;

/// Selects the statements that a fault hits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Marker {
    /// A statement, by the `-- name` at its beginning; one without is known by its first line in
    /// lower case, for example `begin` or `listen fanfare_webhooks`.
    Statement(String),
    /// The `commit` of a transaction in which the named statement ran.
    CommitOf(String),
}

impl Marker {
    /// The statement of this name.
    #[must_use]
    pub fn statement(name: &str) -> Self {
        Self::Statement(name.to_owned())
    }

    /// The commit of a transaction in which the statement of this name ran.
    #[must_use]
    pub fn commit_of(name: &str) -> Self {
        Self::CommitOf(name.to_owned())
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(name) => f.write_str(name),
            Self::CommitOf(name) => write!(f, "commit of {name}"),
        }
    }
}

/// What the proxy does to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed, and the statement does not reach the server.
    CloseBefore,
    /// The server runs the statement to its end, and the connection is closed without its answer.
    LoseAnswer,
    /// The server runs the statement to its end, and its answer is delayed by this time.
    Delay(Duration),
}

/// A handle of a fault. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Injected(watch::Receiver<u32>);

impl Injected {
    /// The number of statements that it has hit. A hit counts when the statement has taken effect,
    /// with [`Fault::CloseBefore`] when the connection is closed.
    #[must_use]
    pub fn hits(&self) -> u32 {
        *self.0.borrow()
    }

    /// Waits until it has hit a statement, for ever if it never does.
    pub async fn hit(&mut self) {
        if self.0.wait_for(|hits| *hits > 0).await.is_err() {
            // It was cleared before it hit anything.
            std::future::pending::<()>().await;
        }
    }
}

/// An answer that is held back. Dropping it lets the answer go.
#[derive(Debug)]
pub struct Held {
    injected: Injected,
    _release: watch::Sender<()>,
}

impl Held {
    /// Waits until the server has run the statement; its answer is held back from then on.
    pub async fn reached(&mut self) {
        self.injected.hit().await;
    }

    /// Lets the answer go.
    pub fn release(self) {}
}

/// The proxy's action for a unit of the protocol, which lasts up to the server's next
/// `ReadyForQuery`.
#[derive(Debug, Clone)]
enum Action {
    Fault(Fault),
    /// The answer is held until the sender of this is gone.
    Hold(watch::Receiver<()>),
}

struct Injection {
    marker: Marker,
    /// The number of occurrences that pass first.
    skip: u32,
    /// The number of occurrences that are still to be hit; the fault is removed at zero.
    times: u32,
    action: Action,
    hits: Arc<watch::Sender<u32>>,
}

#[derive(Default)]
struct Plan {
    injections: Vec<Injection>,
    seen: BTreeMap<Marker, u64>,
}

/// A proxy on a port of 127.0.0.1 until it is dropped; with it go its connections.
pub struct PgProxy {
    addr: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    /// Whether connections that listen are frozen.
    frozen: Arc<watch::Sender<bool>>,
    /// Whether notifications are passed on.
    notifies: Arc<watch::Sender<bool>>,
    accepting: JoinHandle<()>,
}

impl PgProxy {
    /// Starts to pass connections on to the server at `target`.
    ///
    /// # Panics
    ///
    /// If there is no port to listen on, or outside of a Tokio runtime.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let (listener, addr) =
            listen().unwrap_or_else(|error| panic!("the proxy can't listen: {error}"));
        let plan = Arc::default();
        let frozen = Arc::new(watch::Sender::new(false));
        let notifies = Arc::new(watch::Sender::new(true));
        let shared = Shared {
            target,
            plan: Arc::clone(&plan),
            frozen: Arc::clone(&frozen),
            notifies: Arc::clone(&notifies),
        };
        let accepting = tokio::spawn(accept(listener, shared));
        Self { addr, plan, frozen, notifies, accepting }
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A database's URL with the proxy in the place of the server.
    #[must_use]
    pub fn url(&self, database_url: &str) -> String {
        let (scheme, rest) = database_url.split_once("://").unwrap_or(("postgres", database_url));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let user = authority.rsplit_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
        format!("{scheme}://{user}{}{path}", self.addr)
    }

    /// The next statement with this marker is hit.
    #[expect(clippy::must_use_candidate, reason = "the fault is often all that a test wants")]
    pub fn inject(&self, marker: Marker, fault: Fault) -> Injected {
        self.inject_times(marker, 0, 1, fault)
    }

    /// Each statement with this marker is hit until [`clear`](Self::clear).
    #[expect(clippy::must_use_candidate, reason = "the fault is often all that a test wants")]
    pub fn inject_always(&self, marker: Marker, fault: Fault) -> Injected {
        self.inject_times(marker, 0, u32::MAX, fault)
    }

    /// After `skip` statements with this marker, `times` are hit.
    #[expect(clippy::must_use_candidate, reason = "the fault is often all that a test wants")]
    pub fn inject_times(&self, marker: Marker, skip: u32, times: u32, fault: Fault) -> Injected {
        self.add(marker, skip, times, Action::Fault(fault))
    }

    /// The next statement with this marker runs on the server, and its answer is held back until
    /// what this returns is released or dropped: time to do something in between.
    #[must_use]
    pub fn hold(&self, marker: Marker) -> Held {
        self.hold_after(marker, 0)
    }

    /// The same after `skip` statements with this marker have passed.
    #[must_use]
    pub fn hold_after(&self, marker: Marker, skip: u32) -> Held {
        let (release, released) = watch::channel(());
        let injected = self.add(marker, skip, 1, Action::Hold(released));
        Held { injected, _release: release }
    }

    /// Forgets all faults that have not hit yet.
    pub fn clear(&self) {
        hold(&self.plan).injections.clear();
    }

    /// Freezes connections that have sent `listen`: they stay open and pass nothing on, in either
    /// direction.
    pub fn freeze_listeners(&self) {
        self.frozen.send_replace(true);
    }

    /// Thaws these connections: they pass everything on again, also the bytes held back.
    pub fn thaw_listeners(&self) {
        self.frozen.send_replace(false);
    }

    /// Drops all notifications from now on, as a transaction pooler does.
    pub fn drop_notifications(&self) {
        self.notifies.send_replace(false);
    }

    /// All markers that have passed, with their counts.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Marker, u64> {
        hold(&self.plan).seen.clone()
    }

    fn add(&self, marker: Marker, skip: u32, times: u32, action: Action) -> Injected {
        let (hits, hit) = watch::channel(0);
        let injection = Injection { marker, skip, times, action, hits: Arc::new(hits) };
        hold(&self.plan).injections.push(injection);
        Injected(hit)
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    /// Counts a unit's markers, and returns its action: that of the oldest fault that matches.
    fn pass(&mut self, markers: &[Marker]) -> Option<Due> {
        for marker in markers {
            *self.seen.entry(marker.clone()).or_default() += 1;
        }
        let mut due = None;
        for injection in &mut self.injections {
            if !markers.contains(&injection.marker) {
                continue;
            }
            if injection.skip > 0 {
                injection.skip -= 1;
            } else if due.is_none() {
                injection.times -= 1;
                let hits = Arc::clone(&injection.hits);
                due = Some(Due { action: injection.action.clone(), hits });
            }
        }
        self.injections.retain(|injection| injection.times > 0);
        due
    }
}

/// The action for a unit.
struct Due {
    action: Action,
    hits: Arc<watch::Sender<u32>>,
}

impl Due {
    fn hit(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let listener = socket.listen(1024)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}
