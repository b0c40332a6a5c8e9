//! Errors with their causes.

use std::error::Error;
use std::io;

/// An error and its causes, from the outermost.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An I/O error that wraps another error returns the cause of the wrapped error as its source,
    // and so skips the wrapped error itself.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// An error and its causes as one line of text, for logs and dead letters. A cause whose text ends
/// the text before it is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).fold(String::new(), |mut line, text| {
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    fn layer(text: &'static str, source: impl Into<Option<Box<dyn Error + Send + Sync>>>) -> Layer {
        Layer { text, source: source.into() }
    }

    #[test]
    fn a_cause_that_is_repeated_is_shown_once() {
        let refused: Box<dyn Error + Send + Sync> = Box::new(layer("refused", None));
        let connect: Box<dyn Error + Send + Sync> = Box::new(layer("connect: refused", refused));
        assert_eq!(chain(&layer("start", connect)), "start: connect: refused");
    }

    #[test]
    fn the_cause_inside_an_io_error_is_found_and_shown_once() {
        let hidden = layer("certificate expired", None);
        let error: Box<dyn Error + Send + Sync> = Box::new(io::Error::other(hidden));
        let outer = layer("connect", error);
        assert_eq!(causes(&outer).filter(|cause| cause.is::<Layer>()).count(), 2);
        assert_eq!(chain(&outer), "connect: certificate expired");
    }
}
