//! Reading the beginning of an answer's body, whatever its length.

use http_body_util::BodyExt as _;

use crate::exchange::Body;

/// The most that is read of any answer, in bytes.
pub(crate) const LIMIT: usize = 16 * 1024;

/// The beginning of a body, as far as it has been read.
#[derive(Debug, Default)]
pub(crate) struct Start {
    bytes: Vec<u8>,
    complete: bool,
}

/// Reads up to [`LIMIT`] bytes into `start`. If the function fails or is cancelled, `start` has the
/// bytes that have arrived. A connection can be used again only if the body was read to its end.
pub(crate) async fn read(body: &mut Body, start: &mut Start) -> Result<(), hyper::Error> {
    match body {
        Body::Partial(bytes) => {
            // It is unknown whether this is all of the body.
            start.push(bytes);
            return Ok(());
        }
        Body::Streaming(body, _) => {
            while let Some(frame) = body.frame().await {
                let Ok(chunk) = frame?.into_data() else { continue };
                if !start.push(&chunk) {
                    return Ok(());
                }
            }
        }
    }
    start.complete = true;
    Ok(())
}

impl Start {
    /// Whether the body is exactly `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.complete && self.bytes == text.as_bytes()
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The text for the ledger. Invalid UTF-8 is replaced, and NUL characters are removed, because
    /// text columns can't store them.
    pub(crate) fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        text.retain(|c| c != '\0');
        if !self.complete && text.ends_with(char::REPLACEMENT_CHARACTER) {
            // The limit is in the middle of a character.
            text.pop();
        }
        text
    }

    /// Appends the bytes that fit, and returns whether all of them did.
    fn push(&mut self, chunk: &[u8]) -> bool {
        let room = LIMIT - self.bytes.len().min(LIMIT);
        let (fits, rest) = chunk.split_at(chunk.len().min(room));
        self.bytes.extend_from_slice(fits);
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(bytes: &[u8], complete: bool, expect: &str) {
        let start = Start { bytes: bytes.to_vec(), complete };
        assert_eq!(start.into_text(), expect);
    }

    #[test]
    fn text_has_no_invalid_utf_8_and_no_nul() {
        check_text(b"plain", true, "plain");
        check_text(b"a\0b\xffc", true, "ab\u{fffd}c");
        check_text("ends in é".as_bytes(), true, "ends in é");
        check_text(b"ends in \xc3", true, "ends in \u{fffd}");
        check_text(b"cut in \xc3", false, "cut in ");
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let mut start = Start::default();
        assert!(start.push(&vec![b'x'; LIMIT - 1]));
        assert!(!start.push(b"yz"));
        assert!(!start.push(b"more"));
        assert_eq!(start.bytes.len(), LIMIT);
        assert!(start.into_text().ends_with("xy"));
    }

    #[test]
    fn only_a_whole_body_equals_a_text() {
        let start = |bytes: &[u8], complete| Start { bytes: bytes.to_vec(), complete };
        assert!(start(b"echo", true).is("echo"));
        assert!(!start(b"echo", false).is("echo"));
        assert!(!start(b"echo\n", true).is("echo"));
        assert!(!start(b"Echo", true).is("echo"));
    }
}
