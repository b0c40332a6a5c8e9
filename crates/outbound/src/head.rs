//! A parser for the head of an HTTP/1 answer that is more tolerant than the HTTP library.
//!
//! A valid status line decides about a delivery, whatever follows it. The library refuses a whole
//! answer because of one malformed header. So the bytes are kept ([`crate::watch`]), and parsed
//! here if the library fails.

use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// The head of the final answer, as far as it has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    /// The lines after the status line, without the blank one.
    fields: &'a [u8],
    /// The bytes after the head; `None` while the head is incomplete.
    pub(crate) body: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// Parses the head of the final answer, and skips interim answers (1xx) at the beginning.
    /// Returns `None` if there is no complete, valid status line.
    pub(crate) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        loop {
            let (line, rest) = split_line(bytes)?;
            let status = status(line)?;
            let (fields, body) = split_fields(rest);
            // 101 ends HTTP on the connection, so no other answer follows it.
            if (100..200).contains(&status) && status != 101 {
                bytes = body?;
            } else {
                return Some(Self { status, fields, body });
            }
        }
    }

    /// The headers that can be parsed. Folded lines are joined; a malformed line is skipped.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut joined: Vec<Vec<u8>> = Vec::new();
        for line in lines(self.fields) {
            match (line.first(), joined.last_mut()) {
                (Some(b' ' | b'\t'), Some(previous)) => {
                    previous.push(b' ');
                    previous.extend_from_slice(line.trim_ascii());
                }
                _ => joined.push(line.to_vec()),
            }
        }
        let mut map = HeaderMap::new();
        for (name, value) in joined.iter().filter_map(|line| field(line)) {
            // The map is full. It has room for more headers than an answer needs.
            if map.try_append(name, value).is_err() {
                break;
            }
        }
        map
    }

    /// Whether the head is complete and conforms to the standard. Only then do both sides agree
    /// where the body ends, so that the connection can be used again.
    pub(crate) fn is_regular(&self) -> bool {
        let mut lengths = 0;
        let mut encoded = false;
        let mut regular = |line: &[u8]| {
            let Some(line) = line.strip_suffix(b"\r") else { return false };
            let Some((name, _)) = strict_field(line) else { return false };
            lengths += usize::from(name == CONTENT_LENGTH);
            encoded |= name == TRANSFER_ENCODING;
            true
        };
        let lines = self.fields.strip_suffix(b"\n").map(|fields| fields.split(|b| *b == b'\n'));
        let each = lines.is_none_or(|mut lines| lines.all(&mut regular));
        self.body.is_some() && each && lengths <= 1 && !(encoded && lengths > 0)
    }
}

/// The status code of a status line: `HTTP/d.d`, a space, three digits, and optionally a space and
/// a reason phrase.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let [major, b'.', minor, b' ', a, b, c, reason @ ..] = rest else { return None };
    let digits = [major, minor, a, b, c].into_iter().all(u8::is_ascii_digit);
    if !digits || *a == b'0' || !matches!(reason.first(), None | Some(b' ')) {
        return None;
    }
    Some([a, b, c].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

/// Splits off the first line, without its line end.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

/// Splits at the first empty line.
fn split_fields(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut rest = bytes;
    while let Some((line, after)) = split_line(rest) {
        if line.is_empty() {
            let fields = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
            return (fields, Some(after));
        }
        rest = after;
    }
    (bytes, None)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Parses a header that conforms to the standard.
fn strict_field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// Parses a header that may have white space before its colon.
fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let name = HeaderName::from_bytes(name.trim_ascii_end()).ok()?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_status(bytes: &str, expect: Option<u16>) {
        assert_eq!(Head::read(bytes.as_bytes()).map(|head| head.status), expect, "{bytes:?}");
    }

    #[test]
    fn a_complete_status_line_gives_the_status() {
        check_status("HTTP/1.1 200 OK\r\n", Some(200));
        check_status("HTTP/1.0 204\n", Some(204));
        check_status("\r\nHTTP/1.1 410 \r\nx", Some(410));
        check_status("HTTP/1.1 200 \u{1}\u{ff}\r\n", Some(200));
        check_status(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\na: b\r\n\r\nHTTP/1.1 202 A\r\n",
            Some(202),
        );
        check_status("HTTP/1.1 101 Switching\r\n", Some(101));
    }

    #[test]
    fn malformed_and_incomplete_status_lines_give_no_status() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 2x0 OK\r\n",
            "HTTP/1.1 2000\r\n",
            "HTTP/1.1\r\n",
            "HTTP/1.1 099 Odd\r\n",
            "ICY 200 OK\r\n",
            "http/1.1 200 OK\r\n",
            " HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            check_status(bytes, None);
        }
    }

    fn head(fields: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\n{fields}\r\nbody").into_bytes()
    }

    #[test]
    fn malformed_headers_are_skipped_and_the_others_are_read() {
        let bytes =
            head("Retry-After : 7\r\nno colon\r\nbad name: x\r\nfolded: a\r\n\t b\nlast:c\r\n");
        let head = Head::read(&bytes).unwrap();
        assert_eq!(head.body, Some(&b"body"[..]));
        let headers = head.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((text("retry-after"), text("folded")), (Some("7"), Some("a b")));
        assert_eq!((text("last"), headers.len()), (Some("c"), 3));
    }

    #[test]
    fn only_a_complete_head_that_conforms_to_the_standard_is_regular() {
        let regular = |fields: &str| Head::read(&head(fields)).unwrap().is_regular();
        assert!(regular(""));
        assert!(regular("content-length: 4\r\nx: caf\u{e9}\r\nempty:\r\n"));
        assert!(regular("transfer-encoding: chunked\r\n"));
        for fields in [
            "x : y\r\n",
            "x: y\n",
            "x: y\r\n z\r\n",
            "none\r\n",
            "x: \u{1}\r\n",
            "b d: x\r\n",
            "content-length: 4\r\ncontent-length: 4\r\n",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert!(!regular(fields), "{fields:?}");
        }
        assert!(!Head::read(b"HTTP/1.1 200 OK\r\nx: y\r\n").unwrap().is_regular());
    }
}
