//! One connection through the proxy: its messages are read in both directions, and matched into
//! units, each up to the server's next `ReadyForQuery`.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Action, Due, Fault, Marker, Plan};
use crate::mutex::hold;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// A statement without a comment is known by this much of its text.
const LONGEST_NAME: usize = 60;

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) target: SocketAddr,
    pub(super) plan: Arc<Mutex<Plan>>,
    pub(super) frozen: Arc<watch::Sender<bool>>,
    pub(super) notifies: Arc<watch::Sender<bool>>,
}

/// Owns all connections: they close when it is dropped.
pub(super) async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                // The result is not needed: an end or an error on either side closes the
                // connection.
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

/// The client's first message after TLS was declined: a start, or the cancellation of a query.
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

/// The state that both directions of a connection share.
#[derive(Default)]
struct State {
    /// Units that the server was sent and has not answered yet.
    units: VecDeque<Option<Due>>,
    /// Whether it has sent `listen`.
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

    /// The bytes after the length.
    fn body(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }
}

/// Reads a length and the bytes that follow.
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
    let is_open = |frozen: &bool| !frozen || !hold(state).listens;
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

    /// Records the action for the answer of a unit; an error if the unit must not be sent.
    fn end_unit(&mut self, markers: &mut Vec<Marker>) -> io::Result<()> {
        let due = hold(&self.plan).pass(&std::mem::take(markers));
        if let Some(due @ Due { action: Action::Fault(Fault::CloseBefore), .. }) = &due {
            due.hit();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        hold(&self.state).units.push_back(due);
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
            "listen" => hold(&self.state).listens = true,
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
        // The bytes that are kept until the action for their unit is done.
        let mut kept = Vec::new();
        loop {
            let message = Message::read(&mut self.from).await?;
            if message.kind == b'A' && !*self.notifies.borrow() {
                continue;
            }
            let is_due = matches!(hold(&self.state).units.front(), Some(Some(_)));
            // Ready for the next query: the unit has taken effect, or failed.
            let ends = message.kind == b'Z';
            if is_due {
                kept.extend_from_slice(&message.bytes);
                if !ends {
                    continue;
                }
            }
            let due = if ends { hold(&self.state).units.pop_front().flatten() } else { None };
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
            // Many rows are sent together; the rest is sent when no more bytes are ready.
            if ends || self.from.buffer().is_empty() {
                self.to.flush().await?;
            }
        }
    }
}
