//! A connection to a receiver, plain or secured, that notes what passes over it.
//!
//! It also mends two things where HTTP/1 meets TCP:
//!
//! - A connection that the peer closed while it was idle refuses a new request before the first
//!   byte, so that the request can safely go over another one. The system is asked for that: what
//!   the runtime knows of a socket is as old as its last look at it.
//! - A peer that answers and closes before it has read the whole request breaks the writing. The
//!   rest of the request is then thrown away, and the answer, which is waiting, is read.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::watch::Watch;

/// The connection.
#[derive(Debug)]
pub(crate) struct Stream {
    io: Io,
    /// For HTTP/1 only: the exchanges of HTTP/2 share a connection.
    watch: Option<Arc<Watch>>,
}

/// What the bytes pass through.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn new(io: Io, watch: Option<Arc<Watch>>) -> Self {
        Self { io, watch }
    }

    /// Whether the connection can take the first byte of another request.
    fn poll_open(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, secured) = match &self.io {
            Io::Plain(socket) => (socket, false),
            Io::Tls(stream) => (stream.get_ref().0, true),
        };
        let closed = || Err(io::Error::new(ErrorKind::NotConnected, "closed while idle"));
        match recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Ready(Ok(())),
            // TLS has words of its own, such as tickets and the word of the end: they are read
            // first. Nothing else is to come before a request.
            Ok((_, 1..)) if secured => {
                if socket.poll_read_ready(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Ok(_) | Err(_) => Poll::Ready(closed()),
        }
    }

    /// Writes to a connection that is watched, or another way when it is not.
    fn poll_noted_write(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(&mut Io, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(watch) = self.watch.clone() else { return write(&mut self.io, context) };
        if watch.is_broken() {
            return Poll::Ready(Ok(length));
        }
        if watch.is_first_write_again() {
            ready!(self.poll_open(context))?;
        }
        if matches!(self.io, Io::Tls(_)) {
            // A failed write may have sent a part all the same.
            watch.wrote();
        }
        match ready!(write(&mut self.io, context)) {
            Ok(written) => {
                watch.wrote();
                Poll::Ready(Ok(written))
            }
            Err(error) if watch.has_sent() => {
                tracing::debug!(%error, "the receiver stopped reading; its answer is looked for");
                watch.broke();
                Poll::Ready(Ok(length))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Flushes or shuts down; a connection that is broken has nothing left to do.
    fn poll_rest(
        &mut self,
        context: &mut Context<'_>,
        rest: impl FnOnce(&mut Io, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let Some(watch) = self.watch.clone() else { return rest(&mut self.io, context) };
        if watch.is_broken() {
            return Poll::Ready(Ok(()));
        }
        match ready!(rest(&mut self.io, context)) {
            Err(_) if watch.has_sent() => {
                watch.broke();
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        })?;
        if let Some(watch) = &self.watch {
            watch.received(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_noted_write(context, bytes.len(), |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.poll_noted_write(context, length, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(context, slices),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(context, slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_rest(context, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_rest(context, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_after_the_peer_stopped_reading() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let watch = Arc::new(Watch::default());
        watch.begin();
        let mut stream = Stream::new(Io::Plain(socket), Some(Arc::clone(&watch)));
        stream.write_all(b"the beginning").await.unwrap();
        peer.write_all(b"HTTP/1.1 413 No\r\n\r\n").unwrap();
        // What is not read makes this a reset.
        drop(peer);
        while !watch.is_broken() {
            stream.write_all(&[b'x'; 1024]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // It may end with the reset.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"HTTP/1.1 413 No\r\n\r\n");
        assert_eq!(watch.head(|head| head.status), Some(413));
    }
}
