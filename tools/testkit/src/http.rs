//! As much of HTTP/1.1 as a receiver needs: requests with a body of known length.

use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// More than any webhook's headers.
const MAX_HEAD: usize = 64 * 1024;
/// A thousand events of 1 KiB and more fit.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its last byte had come.
    pub at: Instant,
    /// As sent, such as `POST`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// In the order sent; the names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes as they came.
    pub body: Bytes,
}

impl Request {
    /// The value of the first header of that name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the next request; `None` at the end of the connection. `buffer` keeps what came too early.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Request>> {
    let head_length = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > MAX_HEAD {
            return Err(refused("the head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = buffer.split_to(head_length);
    buffer.advance(4);
    let head = std::str::from_utf8(&head).map_err(|_| refused("the head is not text"))?;
    let mut request = parse_head(head).ok_or_else(|| refused("the head is not HTTP/1.1"))?;
    request.body = read_body(stream, buffer, body_length(&request)?).await?;
    request.at = Instant::now();
    Ok(Some(request))
}

fn parse_head(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Request { at: Instant::now(), method, path, headers, body: Bytes::new() })
}

fn body_length(request: &Request) -> io::Result<usize> {
    if request.header("transfer-encoding").is_some() {
        return Err(refused("the body has no length"));
    }
    let Some(length) = request.header("content-length") else {
        return Ok(0);
    };
    let length = length.parse().map_err(|_| refused("the body's length is not a number"))?;
    if length > MAX_BODY { Err(refused("the body is too long")) } else { Ok(length) }
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<Bytes> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(refused("the body ends early"));
        }
    }
    Ok(buffer.split_to(length).freeze())
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
