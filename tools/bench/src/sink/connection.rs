//! One connection of the sink: requests with bodies of known length, one after another.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tally::Manner;
use super::{Shared, lock};
use crate::event::{self, HEAD};
use crate::number;

/// The largest head of a request, in bytes; Fanfare's are smaller.
const MOST_HEAD: usize = 64 * 1024;

/// The size of the read buffer, in bytes.
const CHUNK: usize = 64 * 1024;

/// The delay of the answer of a late hook.
const LATE: Duration = Duration::from_millis(50);

/// The delay of the answer of a slow hook.
const SLOW: Duration = Duration::from_secs(5);

/// The delay between the bytes of a trickling hook.
const DRIP: Duration = Duration::from_millis(200);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Serves requests until the client closes the connection.
pub(super) async fn serve(mut stream: TcpStream, tally: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(CHUNK);
    while let Some(manner) = take(&mut stream, &mut buffer, tally).await? {
        match manner {
            None => stream.write_all(NOT_FOUND).await?,
            // The manner of a gateway that has failed was applied when the request was counted.
            Some(Manner::Good | Manner::Gateway) => stream.write_all(OK).await?,
            Some(Manner::Slow) => {
                tokio::time::sleep(SLOW).await;
                stream.write_all(OK).await?;
            }
            Some(Manner::Late) => {
                tokio::time::sleep(LATE).await;
                stream.write_all(OK).await?;
            }
            Some(Manner::Error | Manner::Refuse) => stream.write_all(ERROR).await?,
            Some(Manner::Storm) => stream.write_all(UNAVAILABLE).await?,
            Some(Manner::Reject) => stream.write_all(BAD_REQUEST).await?,
            Some(Manner::Hang) => return hang(&mut stream).await,
            Some(Manner::Reset) => return stream.set_zero_linger(),
            Some(Manner::Trickle) => return trickle(&mut stream).await,
        }
    }
    Ok(())
}

/// Reads a whole request and counts it; `None` at the end of the connection.
async fn take(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    tally: &Shared,
) -> io::Result<Option<Option<Manner>>> {
    let head = loop {
        if let Some(at) = end_of_head(buffer) {
            break at;
        }
        if buffer.len() > MOST_HEAD {
            return Err(io::Error::other("the head is too long"));
        }
        if read(stream, buffer).await? == 0 {
            return Ok(None);
        }
    };
    let length = body_length(&buffer[..head]);
    let whole = head + length;
    while buffer.len() < whole.min(head + HEAD) {
        if read(stream, buffer).await? == 0 {
            return Ok(None);
        }
    }
    let start = &buffer[head..whole.min(buffer.len())];
    let stamp = event::stamp(start);
    let path = path(&buffer[..head]).to_vec();
    let mut missing = whole;
    while missing > buffer.len() {
        missing -= buffer.len();
        buffer.clear();
        if read(stream, buffer).await? == 0 {
            return Ok(None);
        }
    }
    buffer.advance(missing);
    Ok(Some(lock(tally).count(&path, stamp, number::now())))
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.reserve(CHUNK / 2);
    stream.read_buf(buffer).await
}

/// The position of the body.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The second word of the first line.
fn path(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// The length of the body; 0 if there is no such header.
fn body_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let digits = value.and_then(|value| std::str::from_utf8(value).ok());
    digits.and_then(|digits| digits.trim().parse().ok()).unwrap_or_default()
}

/// Sends no answer until the client closes the connection.
async fn hang(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Sends an answer byte by byte that never ends.
async fn trickle(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nx-drip: ").await?;
    loop {
        stream.write_all(b".").await?;
        tokio::time::sleep(DRIP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_body_length_are_read_from_a_head() {
        let head = b"POST /good/a/1 HTTP/1.1\r\nhost: x\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(end_of_head(head), Some(head.len()));
        assert_eq!(path(head), b"/good/a/1");
        assert_eq!(body_length(head), 12);
        assert_eq!(body_length(b"GET / HTTP/1.1\r\n\r\n"), 0);
    }
}
