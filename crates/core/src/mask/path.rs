//! JSON paths: a subset of RFC 9535 that can be matched in a single pass over the text.
//!
//! A library for all of RFC 9535 works on a tree of values. A tree keeps one of two duplicate keys;
//! the other one, which a receiver may use, would not be masked.

/// A path from an event's data to the values that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Segment>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// Whether it matches at any depth.
    anywhere: bool,
    selectors: Vec<Selector>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Name(String),
    Index(usize),
    All,
}

/// The step from an object or array to one of its values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// To a member of an object.
    Name(&'a str),
    /// To an element of an array.
    Index(usize),
}

/// How far a value matches a path: bit `n` is set if the first `n` segments match.
pub(super) type Progress = u64;

/// The progress of the event's data.
pub(super) const START: Progress = 1;

/// The most segments; [`Progress`] has a bit for each, and one for the end.
const MOST_SEGMENTS: usize = 63;

impl Path {
    /// Parses a path, or returns the problem in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix('$').ok_or("it must begin with $, which is the data")?;
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (segment, after) = segment(rest)?;
            segments.push(segment);
            rest = after;
        }
        match segments.len() {
            0 => Err("it selects the data as a whole; select a value in the data".to_owned()),
            1..=MOST_SEGMENTS => Ok(Self(segments)),
            _ => Err(format!("it has more than {MOST_SEGMENTS} segments")),
        }
    }

    /// The progress of a value from that of the object or array that contains it.
    pub(super) fn advance(&self, from: Progress, step: Step<'_>) -> Progress {
        let mut to = 0;
        for (n, segment) in self.0.iter().enumerate().filter(|(n, _)| from & (1 << n) != 0) {
            if segment.anywhere {
                to |= 1 << n;
            }
            if segment.selectors.iter().any(|selector| selector.selects(step)) {
                to |= 1 << (n + 1);
            }
        }
        to
    }

    /// Whether the path selects a value with this progress.
    pub(super) fn names(&self, progress: Progress) -> bool {
        progress & (1 << self.0.len()) != 0
    }
}

impl Selector {
    fn selects(&self, step: Step<'_>) -> bool {
        match (self, step) {
            (Self::All, _) => true,
            (Self::Name(wanted), Step::Name(name)) => wanted == name,
            (Self::Index(wanted), Step::Index(index)) => *wanted == index,
            _ => false,
        }
    }
}

/// Parses one segment, and returns the rest of the text.
fn segment(text: &str) -> Result<(Segment, &str), String> {
    let (anywhere, rest) = match (text.strip_prefix(".."), text.strip_prefix('.')) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) if !rest.starts_with('[') => (false, rest),
        _ if text.starts_with('[') => (false, text),
        _ => return Err(format!("expected . or [ at {text:?}")),
    };
    let (selectors, rest) = if let Some(inside) = rest.strip_prefix('[') {
        brackets(inside)?
    } else if let Some(rest) = rest.strip_prefix('*') {
        (vec![Selector::All], rest)
    } else {
        let (name, rest) = member(rest)?;
        (vec![Selector::Name(name.to_owned())], rest)
    };
    Ok((Segment { anywhere, selectors }, rest))
}

/// Parses a name without quotes: letters, digits, `_`, and characters beyond ASCII.
fn member(text: &str) -> Result<(&str, &str), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("expected a name at {text:?}; write other names as ['…']"));
    }
    Ok((name, rest))
}

/// Parses the selectors after an opening bracket.
fn brackets(text: &str) -> Result<(Vec<Selector>, &str), String> {
    let mut selectors = Vec::new();
    let mut rest = text;
    loop {
        let (selector, after) = selector(rest.trim_start())?;
        selectors.push(selector);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return Ok((selectors, after));
        }
        rest = rest.strip_prefix(',').ok_or_else(|| {
            format!("expected , or ] at {rest:?}; slices and filter expressions are not supported")
        })?;
    }
}

fn selector(text: &str) -> Result<(Selector, &str), String> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Selector::All, rest));
    }
    if let Some(quote @ ('\'' | '"')) = text.chars().next() {
        return quoted(text, quote);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let index = digits.parse().map_err(|_| {
        let not_supported = "slices, filters and indexes from the end are not supported";
        format!("expected 'name', an index or * at {text:?}; {not_supported}")
    })?;
    Ok((Selector::Index(index), rest))
}

/// Parses a name in quotes, with the escapes of JSON and that of the quote.
fn quoted(text: &str, quote: char) -> Result<(Selector, &str), String> {
    let mut json = String::from('"');
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => {
                json.push('"');
                let name = serde_json::from_str(&json)
                    .map_err(|_| format!("the quoted name in {text:?} is not well formed"))?;
                let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
                return Ok((Selector::Name(name), rest));
            }
            '"' => json.push_str("\\\""),
            '\\' => match chars.next() {
                Some((_, '\'')) if quote == '\'' => json.push('\''),
                Some((_, escaped)) => json.extend(['\\', escaped]),
                None => break,
            },
            _ => json.push(c),
        }
    }
    Err(format!("the quote at {text:?} is not closed"))
}
