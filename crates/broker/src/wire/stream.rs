//! A connection's stream with the [filter](super::filter) in it.

use super::FrameMax;
use super::filter::{Filter, Handshake};
use super::room::Arrivals;
use async_rs::Tokio;
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::AsyncTcpStream;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Bytes that are read at a time.
const CHUNK: usize = 32 * 1024;

/// The stream below the filter: TCP, with TLS or without.
type Inner = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A stream from which the library reads only frames that it can handle.
pub(crate) struct Filtered {
    inner: Inner,
    chunk: Box<[u8]>,
    filter: Filter,
    /// The bytes for the library; those from `taken` on have not been read yet.
    out: Vec<u8>,
    taken: usize,
    handshake: Handshake,
    frame_max: FrameMax,
}

impl Filtered {
    pub(crate) fn new(inner: Inner, frame_max: &FrameMax, arrivals: &Arrivals) -> Self {
        Self {
            inner,
            chunk: vec![0; CHUNK].into(),
            filter: Filter::new(frame_max.clone(), arrivals.clone()),
            out: Vec::new(),
            taken: 0,
            handshake: Handshake::new(),
            frame_max: frame_max.clone(),
        }
    }
}

impl AsyncRead for Filtered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // The bytes that were read may be only a part of a frame that is kept until it is whole.
        while this.taken == this.out.len() {
            this.out.clear();
            this.out.shrink_to(2 * CHUNK);
            this.taken = 0;
            let count = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut this.chunk))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            let bytes = this.chunk.get(..count).unwrap_or_default();
            this.filter.push(bytes, &mut this.out).map_err(io::Error::other)?;
        }
        let rest = this.out.get(this.taken..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        this.taken += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.handshake.is_done() {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        }
        let frame_max = this.frame_max.get();
        let other = this.handshake.clone().pass(buf, frame_max);
        let count = ready!(Pin::new(&mut this.inner).poll_write(cx, &other))?;
        // Only the written bytes count; the library sends the others again.
        let _ = this.handshake.pass(buf.get(..count).unwrap_or_default(), frame_max);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.handshake.is_done() {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Tokio, whose streams are filtered. It exists because the library asks its runtime for the type
/// of a connection's stream.
#[derive(Clone, Debug)]
pub(crate) struct Kit {
    tokio: Tokio,
    frame_max: FrameMax,
    arrivals: Arrivals,
}

impl Kit {
    /// The runtime of the caller.
    pub(crate) fn current(frame_max: FrameMax, arrivals: Arrivals) -> Self {
        Self { tokio: Tokio::current(), frame_max, arrivals }
    }

    pub(crate) fn tokio(&self) -> Tokio {
        self.tokio.clone()
    }
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, f: F) -> T {
        self.tokio.block_on(f)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        f: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn(f)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        f: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn_blocking(f)
    }
}

impl Reactor for Kit {
    type TcpStream = Filtered;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Filtered, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, dur: Duration) -> Self::Sleep {
        self.tokio.sleep(dur)
    }

    fn interval(&self, dur: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(dur)
    }

    fn tcp_connect_addr(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (frame_max, arrivals) = (self.frame_max.clone(), self.arrivals.clone());
        let connecting = self.tokio.tcp_connect_addr(addr);
        async move {
            let plain = AsyncTcpStream::Plain(connecting.await?);
            Ok(Filtered::new(plain, &frame_max, &arrivals))
        }
    }
}
