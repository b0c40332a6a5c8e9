//! A TCP proxy that breaks on demand, to stand between a program and its server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The size of a read.
const CHUNK: usize = 16 * 1024;

/// A proxy on a port of 127.0.0.1 that stays its own until it is dropped; with it go its connections.
pub struct Proxy {
    /// The target of the next connection.
    target: Arc<watch::Sender<SocketAddr>>,
    addr: SocketAddr,
    /// Bound but not listening: it keeps the port while the proxy is cut, and refuses connections.
    _reservation: TcpSocket,
    behaviour: Arc<watch::Sender<Behaviour>>,
    accepting: Option<JoinHandle<()>>,
}

/// What a proxy does with its connections.
#[derive(Clone, Copy, Default)]
struct Behaviour {
    is_frozen: bool,
    /// The time for which all that passes is held back.
    delay: Duration,
    /// The number of resets so far; a connection ends when it grows.
    resets: u64,
}

impl Proxy {
    /// Starts to pass connections on to `target`.
    ///
    /// # Panics
    ///
    /// If there is no port to listen on, or outside of a Tokio runtime.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (reservation, addr) = or_panic(bind(free).and_then(|socket| {
            let addr = socket.local_addr()?;
            Ok((socket, addr))
        }));
        let behaviour = Arc::default();
        let target = Arc::new(watch::Sender::new(target));
        let mut proxy =
            Self { target, addr, _reservation: reservation, behaviour, accepting: None };
        proxy.resume();
        proxy
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes all connections and refuses new ones.
    pub async fn cut(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The listener and the connections are closed once it has ended.
            let _ = accepting.await;
        }
    }

    /// Passes new connections on to another target, as a virtual address does that moves; those that
    /// are open stay where they are.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Keeps the connections open, takes new ones too, and passes nothing on.
    pub fn freeze(&self) {
        self.behaviour.send_modify(|it| it.is_frozen = true);
    }

    /// Holds everything that passes back for `delay`.
    pub fn delay(&self, delay: Duration) {
        self.behaviour.send_modify(|it| it.delay = delay);
    }

    /// Resets all open connections on both sides, and takes new ones.
    pub fn reset(&self) {
        self.behaviour.send_modify(|it| it.resets += 1);
    }

    /// Passes everything on again without a delay, also what was held back while frozen.
    ///
    /// # Panics
    ///
    /// If the port can't be listened on again, or outside of a Tokio runtime.
    pub fn resume(&mut self) {
        self.behaviour.send_modify(|it| (it.is_frozen, it.delay) = (false, Duration::ZERO));
        if self.accepting.is_none() {
            let listener = or_panic(bind(self.addr).and_then(|socket| socket.listen(1024)));
            let accepting = accept(listener, self.target.subscribe(), Arc::clone(&self.behaviour));
            self.accepting = Some(tokio::spawn(accepting));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[track_caller]
fn or_panic<T>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the proxy can't listen: {error}"))
}

/// Owns all connections: they close when it is dropped.
async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    behaviour: Arc<watch::Sender<Behaviour>>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let target = *target.borrow();
                connections.spawn(connect(client, target, behaviour.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// An unreachable target closes the client's connection.
async fn connect(client: TcpStream, target: SocketAddr, behaviour: watch::Receiver<Behaviour>) {
    let resets = behaviour.borrow().resets;
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // A proxy must not add delays of its own.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut watched = behaviour.clone();
    let is_reset = tokio::select! {
        // A failure on one side ends both; a plain end of one direction leaves the other open.
        _ = async { tokio::try_join!(
            pump(&mut from_client, &mut to_server, behaviour.clone()),
            pump(&mut from_server, &mut to_client, behaviour),
        ) } => false,
        _ = watched.wait_for(|it| it.resets != resets) => true,
    };
    if is_reset {
        let _ = to_client.as_ref().set_zero_linger();
        let _ = to_server.as_ref().set_zero_linger();
        // A half that is dropped sends an orderly end; one that is forgotten leaves it to the close.
        to_client.forget();
        to_server.forget();
    }
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut behaviour: watch::Receiver<Behaviour>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n_bytes = from.read(&mut chunk).await?;
        let delay = behaviour.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // An end of the stream must not pass while frozen, either.
        if behaviour.wait_for(|it| !it.is_frozen).await.is_err() {
            return Ok(());
        }
        if n_bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..n_bytes]).await?;
    }
}
