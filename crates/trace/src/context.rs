//! Who belongs to which trace, as the header `traceparent` tells it (W3C Trace Context, level 1).

use std::fmt;

/// A span in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The flag of a trace that is recorded.
const RECORDED: u8 = 1;

impl Context {
    /// Reads a header's value; `None` when it is none. Of a later version than `00` the fields that
    /// are known count, as the standard has it (Trace Context, section 4.3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == length && part.bytes().all(digit))
        };
        let version = part(2).filter(|version| *version != "ff")?;
        let (trace, span, flags) = (part(32)?, part(16)?, part(2)?);
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let is_whole = version != "00" || parts.next().is_none();
        is_whole.then_some(Self { trace, span, flags })
    }

    /// The first span of a new trace, which is recorded. `None` without random bytes.
    pub(crate) fn new() -> Option<Self> {
        let trace = random().map(u128::from_be_bytes)?;
        Self { trace: trace.max(1), span: 0, flags: RECORDED }.child()
    }

    /// Another span of the same trace.
    pub(crate) fn child(self) -> Option<Self> {
        let span = random().map(u64::from_be_bytes)?;
        Some(Self { span: span.max(1), ..self })
    }

    pub(crate) fn is_recorded(self) -> bool {
        self.flags & RECORDED != 0
    }

    pub(crate) fn span(self) -> u64 {
        self.span
    }

    pub(crate) fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    pub(crate) fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }
}

/// As the header's value.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01";
        assert_eq!(Context::parse(text).unwrap().to_string(), text);
        for later in ["01", "cc"] {
            let later = text.replacen("00", later, 1);
            assert_eq!(Context::parse(&later).unwrap().to_string(), text);
            assert_eq!(Context::parse(&format!("{later}-more")).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "ff-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-00ad6b7169203331-01",
            "00-00000000000000000000000000000000-00ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01-",
            "00-+af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01",
        ] {
            assert_eq!(Context::parse(wrong), None, "{wrong}");
        }
    }
}
