//! Splitting an input into parts.
//!
//! Parts are lines, so that the inputs in the corpora can be read and written by people.

/// An input, without the parts that were taken.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the next line, without its end.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// The next line as text; an empty one, or one that is not UTF-8, is absent.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.line()).ok().filter(|text| !text.is_empty())
    }

    /// The next byte; zero at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// One of several values, chosen by the next byte.
    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::from(self.byte()).checked_rem(from.len())?;
        from.get(at).copied()
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
