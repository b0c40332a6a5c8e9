//! Reading the beginning of an answer's body, however long the rest is.

use http_body_util::BodyExt as _;

use crate::exchange::Body;

/// The most that is read of any answer, in bytes.
pub(crate) const LIMIT: usize = 16 * 1024;

/// What has been read of a body.
#[derive(Debug, Default)]
pub(crate) struct Start {
    bytes: Vec<u8>,
    complete: bool,
}

/// Reads up to [`LIMIT`] bytes into `start`, which holds what has arrived even when this fails or
/// is cancelled. A body that is read to its end leaves the connection free for the next request.
pub(crate) async fn read(body: &mut Body, start: &mut Start) -> Result<(), hyper::Error> {
    match body {
        Body::Came(bytes) => {
            // More may have been meant to come.
            start.push(bytes);
            return Ok(());
        }
        Body::Coming(body, _) => {
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

    /// The text for the record: invalid UTF-8 is replaced, and NUL characters, which the
    /// ledger's text columns can't hold, are left out.
    pub(crate) fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        text.retain(|c| c != '\0');
        if !self.complete && text.ends_with(char::REPLACEMENT_CHARACTER) {
            // The cut went through a character.
            text.pop();
        }
        text
    }

    /// Takes what fits, and says whether that was all of it.
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
    fn text_is_lossy_and_without_nul() {
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
