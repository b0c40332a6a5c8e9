//! A TCP stream that records its progress, and fails when its peer reads nothing for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::slots::Activity;

/// A stream whose writes must make progress.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    write_time: Duration,
    /// The timer that runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, write_time: Duration) -> Self {
        Self { stream, activity, write_time, stalled: None }
    }

    /// Handles the result of a poll for writing: progress stops the timer, and waiting starts it.
    fn written<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if self.stalled.take().is_some() {
                self.activity.flows();
            }
            self.activity.wrote();
            return polled;
        }
        let stalled = match &mut self.stalled {
            Some(stalled) => stalled,
            none => {
                self.activity.stalls();
                none.insert(Box::pin(sleep(self.write_time)))
            }
        };
        ready!(stalled.as_mut().poll(context));
        // Reset the timer, in case the stream is polled again.
        stalled.as_mut().reset(Instant::now() + self.write_time);
        let why = "the peer has not read its answer for too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP has nothing to flush, so the result says nothing about the peer.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const WRITE_TIME: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_write_fails_when_the_peer_reads_nothing() {
        let (ours, _theirs) = duplex(16);
        let mut watched = Watched::new(ours, Arc::default(), WRITE_TIME);
        let error = watched.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_write_goes_on_while_the_peer_reads_slowly() {
        let (ours, mut theirs) = duplex(1);
        let mut watched = Watched::new(ours, Arc::default(), Duration::from_mins(1));
        let writing = tokio::spawn(async move { watched.write_all(&[7; 64]).await });
        let mut read = [0; 64];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [7; 64]);
        writing.await.unwrap().unwrap();
    }
}
