//! A proxy that stands between a process and PostgreSQL and breaks chosen statements.
//!
//! It reads the protocol, so that a fault hits one statement and nothing else: see [`Fault`].
//! A statement is known by its [`Marker`]. TLS is declined, as by a server without it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// A statement without a comment is known by this much of its text.
const LONGEST_NAME: usize = 60;

/// What a fault waits for.
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

/// What happens to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed, and the statement does not reach the server.
    CloseBefore,
    /// The server runs the statement to its end, and the connection is closed without its answer.
    LoseAnswer,
    /// The server runs the statement to its end, and its answer comes so much later.
    Delay(Duration),
}

/// A fault that was asked for. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Injected(watch::Receiver<u32>);

impl Injected {
    /// How many statements it has hit: counted once the statement has taken effect, for
    /// [`Fault::CloseBefore`] once the connection is closed.
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

/// What the proxy does with a unit of the protocol: all up to the server's next `ReadyForQuery`.
#[derive(Debug, Clone)]
enum Action {
    Fault(Fault),
    /// The answer is held until the sender of this is gone.
    Hold(watch::Receiver<()>),
}

struct Injection {
    marker: Marker,
    /// So many occurrences pass first.
    skip: u32,
    /// So many occurrences are hit; none is left when it is removed.
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
        lock(&self.plan).injections.clear();
    }

    /// Connections that have said `listen` stay open and pass nothing on, in either direction.
    pub fn freeze_listeners(&self) {
        self.frozen.send_replace(true);
    }

    /// They pass everything on again, also what was held back.
    pub fn thaw_listeners(&self) {
        self.frozen.send_replace(false);
    }

    /// Notifications do not reach clients any more, as behind a pooler of transactions.
    pub fn drop_notifications(&self) {
        self.notifies.send_replace(false);
    }

    /// All markers that have passed, and how often.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Marker, u64> {
        lock(&self.plan).seen.clone()
    }

    fn add(&self, marker: Marker, skip: u32, times: u32, action: Action) -> Injected {
        let (hits, hit) = watch::channel(0);
        let injection = Injection { marker, skip, times, action, hits: Arc::new(hits) };
        lock(&self.plan).injections.push(injection);
        Injected(hit)
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    /// Counts what passes, and finds what is to be done with it: the oldest fault that fits.
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

/// What is to be done with a unit.
struct Due {
    action: Action,
    hits: Arc<watch::Sender<u32>>,
}

impl Due {
    fn hit(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let listener = socket.listen(1024)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    frozen: Arc<watch::Sender<bool>>,
    notifies: Arc<watch::Sender<bool>>,
}

/// Owns all connections: they close when it is dropped.
async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                // An end of either side closes the connection, which is all that there is to say.
                connections.spawn(connect(client, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes one connection on until either side ends, or a fault ends it.
async fn connect(mut client: TcpStream, shared: Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target).await?;
    // A proxy must not add delays of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(&start(&mut client).await?).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // The answer to the first message is a unit too.
    let units = VecDeque::from([None]);
    let state = Arc::new(Mutex::new(State { units, listens: false }));
    let requests = Requests {
        from: BufReader::new(from_client),
        to: to_server,
        plan: shared.plan,
        state: Arc::clone(&state),
        frozen: shared.frozen.subscribe(),
        statements: HashMap::new(),
        transaction: None,
    };
    let answers = Answers {
        from: BufReader::new(from_server),
        to: BufWriter::new(to_client),
        state,
        frozen: shared.frozen.subscribe(),
        notifies: shared.notifies.subscribe(),
    };
    tokio::select! {
        ended = requests.run() => ended,
        ended = answers.run() => ended,
    }
}

/// The client's first message: what it wants once TLS was declined, or the cancelling of a query.
async fn start(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let mut bytes = Vec::new();
        read_body(client, &mut bytes).await?;
        let code = bytes.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        match code {
            Some(SSL_REQUEST | GSS_REQUEST) => client.write_all(b"N").await?,
            _ => return Ok(bytes),
        }
    }
}

/// What both directions of a connection know.
#[derive(Default)]
struct State {
    /// Units that the server was sent and has not answered yet.
    units: VecDeque<Option<Due>>,
    /// Whether it has said `listen`.
    listens: bool,
}

/// One message: its type, and all of it.
struct Message {
    kind: u8,
    bytes: Vec<u8>,
}

impl Message {
    async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Self> {
        let kind = from.read_u8().await?;
        let mut bytes = vec![kind];
        read_body(from, &mut bytes).await?;
        Ok(Self { kind, bytes })
    }

    /// What follows the length.
    fn body(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }
}

/// Reads a length and what it is the length of.
async fn read_body(from: &mut (impl AsyncReadExt + Unpin), into: &mut Vec<u8>) -> io::Result<()> {
    let length = from.read_u32().await?;
    into.extend(length.to_be_bytes());
    let start = into.len();
    let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    into.resize(start + rest.ok_or(io::ErrorKind::InvalidData)?, 0);
    from.read_exact(into.get_mut(start..).unwrap_or_default()).await?;
    Ok(())
}

/// Splits a text off that ends with a zero byte.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    (String::from_utf8_lossy(text).into_owned(), rest.get(1..).unwrap_or_default())
}

/// The name of a statement.
fn name(sql: &str) -> String {
    let line = sql.trim_start().lines().next().unwrap_or_default();
    if let Some(comment) = line.strip_prefix("-- ") {
        return comment.split_whitespace().next().unwrap_or_default().to_owned();
    }
    line.trim().to_lowercase().chars().take(LONGEST_NAME).collect()
}

/// Waits while this connection is frozen.
async fn thawed(state: &Mutex<State>, frozen: &mut watch::Receiver<bool>) {
    let is_open = |frozen: &bool| !frozen || !lock(state).listens;
    // An error means that the proxy is gone, and this connection with it.
    let _ = frozen.wait_for(is_open).await;
}

/// The direction from the client to the server.
struct Requests {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    plan: Arc<Mutex<Plan>>,
    state: Arc<Mutex<State>>,
    frozen: watch::Receiver<bool>,
    /// Prepared statements by their names in the protocol.
    statements: HashMap<String, String>,
    /// The names of the statements of the open transaction.
    transaction: Option<Vec<String>>,
}

impl Requests {
    async fn run(mut self) -> io::Result<()> {
        // A unit is kept until it is whole, since it may not be sent at all.
        let (mut unit, mut markers) = (Vec::new(), Vec::new());
        loop {
            let message = Message::read(&mut self.from).await?;
            unit.extend_from_slice(&message.bytes);
            match message.kind {
                b'P' => {
                    let (statement, rest) = text(message.body());
                    self.statements.insert(statement, text(rest).0);
                    continue;
                }
                b'B' => {
                    let (_portal, rest) = text(message.body());
                    let sql = self.statements.get(&text(rest).0).cloned().unwrap_or_default();
                    markers.extend(self.markers(&sql));
                    continue;
                }
                b'Q' => {
                    let sql = text(message.body()).0;
                    markers.extend(self.markers(&sql));
                    self.end_unit(&mut markers)?;
                }
                b'S' => self.end_unit(&mut markers)?,
                // Describe, execute, close.
                b'D' | b'E' | b'C' => continue,
                // The server may have to answer what else there is before the unit is whole.
                _ => {}
            }
            thawed(&self.state, &mut self.frozen).await;
            self.to.write_all(&std::mem::take(&mut unit)).await?;
        }
    }

    /// Notes what is to be done with the answer of a unit; an error if it must not be sent.
    fn end_unit(&mut self, markers: &mut Vec<Marker>) -> io::Result<()> {
        let due = lock(&self.plan).pass(&std::mem::take(markers));
        if let Some(due @ Due { action: Action::Fault(Fault::CloseBefore), .. }) = &due {
            due.hit();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        lock(&self.state).units.push_back(due);
        Ok(())
    }

    /// The markers of a statement that is about to run, which also says where transactions end.
    fn markers(&mut self, sql: &str) -> Vec<Marker> {
        let name = name(sql);
        let mut markers = vec![Marker::Statement(name.clone())];
        let word = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        match word {
            "begin" | "start" => self.transaction = Some(Vec::new()),
            "commit" => {
                let statements = self.transaction.take().unwrap_or_default();
                markers.extend(statements.into_iter().map(Marker::CommitOf));
            }
            "rollback" => self.transaction = None,
            "listen" => lock(&self.state).listens = true,
            _ => {
                if let Some(statements) = &mut self.transaction
                    && !statements.contains(&name)
                {
                    statements.push(name);
                }
            }
        }
        markers
    }
}

/// The direction from the server to the client.
struct Answers {
    from: BufReader<OwnedReadHalf>,
    to: BufWriter<OwnedWriteHalf>,
    state: Arc<Mutex<State>>,
    frozen: watch::Receiver<bool>,
    notifies: watch::Receiver<bool>,
}

impl Answers {
    async fn run(mut self) -> io::Result<()> {
        // What is kept because something is to be done with it.
        let mut kept = Vec::new();
        loop {
            let message = Message::read(&mut self.from).await?;
            if message.kind == b'A' && !*self.notifies.borrow() {
                continue;
            }
            let is_due = matches!(lock(&self.state).units.front(), Some(Some(_)));
            // Ready for the next query: the unit has taken effect, or failed.
            let ends = message.kind == b'Z';
            if is_due {
                kept.extend_from_slice(&message.bytes);
                if !ends {
                    continue;
                }
            }
            let due = if ends { lock(&self.state).units.pop_front().flatten() } else { None };
            if let Some(due) = due {
                due.hit();
                match due.action {
                    Action::Fault(Fault::Delay(time)) => tokio::time::sleep(time).await,
                    Action::Fault(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    // An error means that it is released.
                    Action::Hold(mut released) => drop(released.changed().await),
                }
            }
            thawed(&self.state, &mut self.frozen).await;
            if is_due {
                self.to.write_all(&std::mem::take(&mut kept)).await?;
            } else {
                self.to.write_all(&message.bytes).await?;
            }
            // Many rows are sent together; what waits for more to come is sent at once.
            if ends || self.from.buffer().is_empty() {
                self.to.flush().await?;
            }
        }
    }
}
