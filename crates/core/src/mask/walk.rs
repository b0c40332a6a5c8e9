//! A single pass over a JSON text that replaces the masked values and copies the rest.
//!
//! It is not recursive, since the depth of an event's data has no limit.

use std::borrow::Cow;

use super::path::{Path, Progress, START, Step};
use super::{MASK, keys, text};
use crate::json;

/// Masks a valid JSON text.
pub(super) fn mask<'a>(
    json: &'a str,
    paths: &[Path],
    connection_strings: bool,
    nesting: u8,
) -> Cow<'a, str> {
    let walk = Walk {
        json,
        paths,
        connection_strings,
        nesting,
        at: 0,
        out: String::new(),
        copied: 0,
        levels: Vec::new(),
        key: None,
    };
    walk.run()
}

struct Walk<'a, 'p> {
    json: &'a str,
    paths: &'p [Path],
    connection_strings: bool,
    /// The remaining depth to which strings within strings are scanned.
    nesting: u8,
    /// The current position in the text.
    at: usize,
    out: String,
    /// The position up to which the text has been copied to `out`, or replaced there.
    copied: usize,
    /// The objects and arrays that contain the current position.
    levels: Vec<Level>,
    /// The key of the next value.
    key: Option<String>,
}

/// An object or array that contains the current position.
struct Level {
    /// The index of the next element; `None` for an object.
    next: Option<usize>,
    here: JsonPosition,
}

/// The position of a value, as far as masking depends on it.
struct JsonPosition {
    /// How far it matches each path.
    progress: Vec<Progress>,
    /// Whether it is the value of a secret's name, or is contained in one.
    secret: bool,
}

impl<'a> Walk<'a, '_> {
    fn run(mut self) -> Cow<'a, str> {
        while let Some(byte) = self.byte() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => self.at += 1,
                b'}' | b']' => {
                    self.levels.pop();
                    self.at += 1;
                }
                b'"' if self.expects_key() => {
                    let end = end_of_string(self.json, self.at);
                    self.key = Some(decode(self.slice(self.at, end)).into_owned());
                    self.at = end;
                }
                _ => self.value(byte),
            }
        }
        if self.copied == 0 {
            return Cow::Borrowed(self.json);
        }
        self.out.push_str(self.json.get(self.copied..).unwrap_or_default());
        Cow::Owned(self.out)
    }

    fn expects_key(&self) -> bool {
        self.key.is_none() && self.levels.last().is_some_and(|level| level.next.is_none())
    }

    fn value(&mut self, first: u8) {
        let position = self.position();
        let named = self.paths.iter().zip(&position.progress).any(|(path, at)| path.names(*at));
        if named {
            let end = end_of_value(self.json, self.at);
            return self.replace(end, MASK);
        }
        match first {
            b'{' | b'[' => {
                if !self.connection_strings && position.progress.iter().all(|at| *at == 0) {
                    self.at = end_of_value(self.json, self.at);
                    return;
                }
                let next = (first == b'[').then_some(0);
                self.levels.push(Level { next, here: position });
                self.at += 1;
            }
            b'"' => self.string(&position),
            _ => {
                let end = end_of_value(self.json, self.at);
                if position.secret && !matches!(first, b't' | b'f' | b'n') {
                    return self.replace(end, MASK);
                }
                self.at = end;
            }
        }
    }

    /// The position of the value that begins here.
    fn position(&mut self) -> JsonPosition {
        let key = self.key.take();
        let Some(level) = self.levels.last_mut() else {
            return JsonPosition { progress: vec![START; self.paths.len()], secret: false };
        };
        let index = level.next.as_mut().map(|next| std::mem::replace(next, *next + 1));
        let name = key.as_deref().unwrap_or_default();
        let step = index.map_or(Step::Name(name), Step::Index);
        let progress = self.paths.iter().zip(&level.here.progress);
        let progress = progress.map(|(path, from)| path.advance(*from, step)).collect();
        let inherited = level.here.secret && !keys::is_user(name);
        let secret = self.connection_strings && (inherited || keys::is_secret(name));
        JsonPosition { progress, secret }
    }

    fn string(&mut self, position: &JsonPosition) {
        let end = end_of_string(self.json, self.at);
        if position.secret {
            return self.replace(end, MASK);
        }
        if self.connection_strings {
            let decoded = decode(self.slice(self.at, end));
            if let Cow::Owned(masked) = text::mask(&decoded, self.nesting)
                && masked != decoded
            {
                return self.replace(end, &masked);
            }
        }
        self.at = end;
    }

    /// Replaces the value between the current position and `end` by a string.
    fn replace(&mut self, end: usize, value: &str) {
        self.out.push_str(self.json.get(self.copied..self.at).unwrap_or_default());
        json::push_string(&mut self.out, value);
        (self.copied, self.at) = (end, end);
    }

    fn byte(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.json.get(start..end).unwrap_or_default()
    }
}

/// The end of the value that begins at `start`.
fn end_of_value(json: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = json.as_bytes().get(at) {
        match byte {
            b'"' => {
                at = end_of_string(json, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The end of the string whose opening quote is at `start`.
fn end_of_string(json: &str, start: usize) -> usize {
    let mut escaped = false;
    let inside = json.as_bytes().get(start + 1..).unwrap_or_default();
    let length = inside.iter().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    });
    length.map_or(json.len(), |length| start + length + 2)
}

/// Decodes a JSON string with its quotes. Unpaired surrogates, which JSON allows, become U+FFFD.
fn decode(string: &str) -> Cow<'_, str> {
    let inside = string.strip_prefix('"').unwrap_or(string);
    let inside = inside.strip_suffix('"').unwrap_or(inside);
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut units: Vec<u16> = Vec::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            units.extend(c.encode_utf16(&mut [0; 2]).iter());
            continue;
        };
        units.push(match c {
            'b' => 0x08,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'u' => {
                let digits: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
            }
            quoted => u16::try_from(u32::from(quoted)).unwrap_or(0xfffd),
        });
    }
    Cow::Owned(String::from_utf16_lossy(&units))
}
