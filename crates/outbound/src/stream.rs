//! A connection to a receiver, with or without TLS, that records the bytes in both directions.
//!
//! It also handles two cases of HTTP/1 over TCP:
//!
//! - If the peer closed the connection while it was idle, a new request fails before its first
//!   byte, so that it can safely be sent over another connection. The state of the socket comes
//!   from a system call, because the runtime's knowledge of it may be out of date.
//! - If the peer answers and closes before it has read the whole request, writing fails. The rest
//!   of the request is then discarded, and the answer, which is already in the socket, is read.

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

/// The socket, with or without TLS.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn new(io: Io, watch: Option<Arc<Watch>>) -> Self {
        Self { io, watch }
    }

    /// Fails if the peer has closed the connection, before the first byte of another request.
    fn poll_open(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, secured) = match &self.io {
            Io::Plain(socket) => (socket, false),
            Io::Tls(stream) => (stream.get_ref().0, true),
        };
        let closed = || Err(io::Error::new(ErrorKind::NotConnected, "closed while idle"));
        match recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Ready(Ok(())),
            // TLS has messages of its own, such as tickets and the alert before closing: they are
            // read first. No other data may arrive before a request.
            Ok((_, 1..)) if secured => {
                if socket.poll_read_ready(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Ok(_) | Err(_) => Poll::Ready(closed()),
        }
    }

    /// Writes, and records the result if the connection is watched.
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
            // A write that fails may have sent a part of the data.
            watch.wrote();
        }
        match ready!(write(&mut self.io, context)) {
            Ok(written) => {
                watch.wrote();
                Poll::Ready(Ok(written))
            }
            Err(error) if watch.has_sent() => {
                tracing::debug!(%error, "the receiver stopped reading; waiting for its answer");
                watch.broke();
                Poll::Ready(Ok(length))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Flushes or shuts down. On a broken connection it does nothing.
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
        // Closing with unread data resets the connection.
        drop(peer);
        while !watch.is_broken() {
            stream.write_all(&[b'x'; 1024]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // Reading may end with the error of the reset.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"HTTP/1.1 413 No\r\n\r\n");
        assert_eq!(watch.head(|head| head.status), Some(413));
    }
}
