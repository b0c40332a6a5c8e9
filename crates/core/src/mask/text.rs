//! Connection strings: the beginning and end of the values of password-like keys in a text.
//!
//! There are several syntaxes. ADO.NET and ODBC write `Key=Value;…` with values in quotes or
//! braces, libpq `key=value key='…'`, caches `host,key=value,…`, URLs `?key=value&…`. People mix
//! them, and nest one in the quotes of another. So the code does not detect the syntax: a key is
//! the text before an `=`, and it is a secret if it ends like the name of one. If the end of the
//! value is ambiguous, the longer value is masked. A receiver may miss the text that is masked in
//! excess, but a secret that is masked in part would be public.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{MASK, keys, walk};

mod url;

/// The depth to which nested connection strings are scanned. Deeper ones are masked as a whole.
pub(super) const NESTING: u8 = 8;

/// The common keywords of libpq, by which its connection strings are recognised.
const LIBPQ: [&str; 16] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "passfile",
    "password",
    "port",
    "service",
    "sslmode",
    "sslpassword",
    "sslrootcert",
    "user",
];

/// The longest name that is recognised after white space, in bytes.
const LONGEST_NAME: usize = 64;

/// Masks the passwords in a text. The result is borrowed if the text can't contain any.
pub(super) fn mask(text: &str, nesting: u8) -> Cow<'_, str> {
    if !text.contains(['=', '@', '{', '[']) {
        return Cow::Borrowed(text);
    }
    let Some(nesting) = nesting.checked_sub(1) else {
        return Cow::Borrowed(MASK);
    };
    let json = text.trim_start().starts_with(['{', '[']);
    if json && serde_json::from_str::<&RawValue>(text).is_ok() {
        return walk::mask(text, &[], true, nesting);
    }
    let text = url::mask(text);
    let url_first = match (text.find("://"), text.find('=')) {
        (Some(url), Some(equals)) => url < equals,
        _ => false,
    };
    let scan = Scan { rest: &text, out: String::new(), nesting, url_first, brace: None };
    Cow::Owned(scan.run())
}

/// The separator before a key, which determines where its value ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// The beginning of the text, or a semicolon.
    Semicolon,
    /// White space within another value.
    Space,
    Comma,
    /// `?` or `&`.
    Query,
}

struct Scan<'a> {
    rest: &'a str,
    out: String,
    nesting: u8,
    /// Whether the text begins with a URL, as opposed to having one as a value.
    url_first: bool,
    /// The length of the rest from the closing brace that was last searched for; 0 if there is
    /// none.
    brace: Option<usize>,
}

impl<'a> Scan<'a> {
    fn run(mut self) -> String {
        let mut inside = false;
        while let Some((before, separator)) = self.take_key() {
            self.out.push_str(before);
            self.out.push_str(separator);
            if separator == ";" {
                inside = false;
                continue;
            }
            let value = self.rest.trim_start();
            let space = self.rest.len() - value.len();
            let (behind, name) = key(before, inside);
            if keys::is_secret(name) || keys::is_secret(before) {
                self.out.push_str(take(&mut self.rest, space));
                let end = self.end_of_secret(behind);
                let end = self.end_of_pairs_within(end);
                take(&mut self.rest, end);
                self.out.push_str(MASK);
            } else if let Some(close) = self.close_of_other(space) {
                self.out.push_str(take(&mut self.rest, space));
                self.nested(close);
            }
            inside = true;
        }
        self.out + self.rest
    }

    /// Takes the text before the next `=` or `;`, and that separator.
    fn take_key(&mut self) -> Option<(&'a str, &'a str)> {
        let at = self.rest.find(['=', ';'])?;
        let before = take(&mut self.rest, at);
        Some((before, take(&mut self.rest, 1)))
    }

    /// The length of the secret at the beginning of the rest.
    fn end_of_secret(&mut self, behind: Behind) -> usize {
        let value = self.rest;
        let closes = [self.close(value), escaped_close(value)];
        let ends = |close: &usize| may_follow(value.get(close + 1..).unwrap_or_default(), behind);
        let close = closes.into_iter().flatten().filter(ends).max();
        if let Some(close) = close.filter(|_| behind != Behind::Query) {
            // White space before a separator goes too, as it does without quotes.
            let after = value.get(close + 1..).unwrap_or_default();
            let next = after.trim_start();
            let goes = next.is_empty() || next.starts_with([';', ',']);
            return close + 1 + if goes { after.len() - next.len() } else { 0 };
        }
        let end = match behind {
            Behind::Query if self.url_first => {
                value.find(|c: char| matches!(c, '&' | '#') || c.is_whitespace())
            }
            Behind::Query => {
                value.find(|c: char| matches!(c, '&' | '#' | ';') || c.is_whitespace())
            }
            Behind::Comma => value.find([',', ';']),
            Behind::Space => end_before_pair(value, char::is_whitespace),
            Behind::Semicolon => {
                let end = end_before_pair(value, |c| matches!(c, '\n' | '\r'));
                let whole = value.get(..end.unwrap_or(value.len())).unwrap_or_default();
                libpq_value(whole).or(end)
            }
        };
        end.unwrap_or(value.len())
    }

    /// The end of a secret that ends at `end`, or the end of another secret that begins within it
    /// and is longer. Without this rule, `?sig=a;Pwd='b c'` would show the `c`, because the value of
    /// `sig` ends at white space.
    fn end_of_pairs_within(&mut self, mut end: usize) -> usize {
        let whole = self.rest;
        let mut at = 0;
        while let Some(semicolon) = whole.get(at..end).and_then(|inside| inside.find(';')) {
            at += semicolon + 1;
            let pair = whole.get(at..).unwrap_or_default();
            let (name, value) = pair.split_at(pair.find(['=', ';']).unwrap_or(pair.len()));
            let Some(value) = value.strip_prefix('=').filter(|_| keys::is_secret(name)) else {
                continue;
            };
            self.rest = value.trim_start();
            end = end.max(whole.len() - self.rest.len() + self.end_of_secret(Behind::Semicolon));
        }
        self.rest = whole;
        end
    }

    /// The position of the closing quote of a quoted value that is not a secret.
    fn close_of_other(&mut self, space: usize) -> Option<usize> {
        let value = self.rest.get(space..)?;
        let close = self.close(value)?;
        let after = value.get(close + 1..)?;
        let ends = after.is_empty() || after.starts_with([';', ',', ' ', '\t', '\n', '\r']);
        ends.then_some(close)
    }

    /// Writes a quoted value whose closing quote is at `close`, and masks the secrets in it.
    fn nested(&mut self, close: usize) {
        let whole = take(&mut self.rest, close + 1);
        let inner = whole.get(1..close).unwrap_or_default();
        let quote = whole.get(close..).unwrap_or_default();
        let twice = quote.repeat(2);
        let plain = inner.replace(&twice, quote);
        let masked = mask(&plain, self.nesting);
        if masked == plain {
            self.out.push_str(whole);
        } else {
            self.out.push_str(whole.get(..1).unwrap_or_default());
            self.out.push_str(&masked.replace(quote, &twice));
            self.out.push_str(quote);
        }
    }

    /// The position at which the quote or brace at the beginning of `value` is closed. Doubled
    /// quotes and braces don't close it.
    ///
    /// The position of a closing brace is cached, so that a text of many opening braces is scanned
    /// only once. Quotes need no cache, because the next opening quote is also a closing one.
    fn close(&mut self, value: &str) -> Option<usize> {
        match value.chars().next()? {
            quote @ ('"' | '\'') => closing(value, quote),
            '{' => {
                let left = match self.brace {
                    Some(left) if left < value.len() => left,
                    _ => closing(value, '}').map_or(0, |close| value.len() - close),
                };
                self.brace = Some(left);
                (left > 0).then(|| value.len() - left)
            }
            _ => None,
        }
    }
}

/// Splits the text before an `=` into the separator before the key, and the key.
fn key(before: &str, inside: bool) -> (Behind, &str) {
    let name = before.rsplit(['?', '&', ',']).next().unwrap_or_default();
    let one_word = !name.trim().contains(char::is_whitespace);
    let separator = before.strip_suffix(name).filter(|_| one_word).unwrap_or_default();
    let behind = match separator.chars().next_back() {
        Some(',') => Behind::Comma,
        Some(_) => Behind::Query,
        None if inside => Behind::Space,
        None => Behind::Semicolon,
    };
    let last_word = name.split_whitespace().next_back().unwrap_or_default();
    (behind, if inside { last_word } else { name })
}

/// Takes `length` bytes from the beginning.
fn take<'a>(rest: &mut &'a str, length: usize) -> &'a str {
    let (taken, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
    *rest = left;
    taken
}

fn closing(value: &str, close: char) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = at + value.get(at..)?.find(close)?;
        if !value.get(found + 1..)?.starts_with(close) {
            return Some(found);
        }
        at = found + 2;
    }
}

/// The position of the closing quote if a backslash escapes the next character, as in libpq.
fn escaped_close(value: &str) -> Option<usize> {
    let inside = value.strip_prefix('\'')?;
    let mut escaped = false;
    let closes = |c: char| {
        let found = !escaped && c == '\'';
        escaped = !escaped && c == '\\';
        found
    };
    inside.find(closes).map(|at| at + 1)
}

/// Whether a quoted secret may end before the text `after`.
fn may_follow(after: &str, behind: Behind) -> bool {
    let next = after.trim_start();
    let spaced = next.len() < after.len();
    next.is_empty()
        || next.starts_with(';')
        || (behind == Behind::Comma && next.starts_with(','))
        || (behind == Behind::Space && spaced && name_of_pair(next).is_some())
        || (spaced && name_of_pair(next).is_some_and(is_libpq))
}

/// The position of the first semicolon, or of the first white space that another `name=` follows.
fn end_before_pair(value: &str, is_space: impl Fn(char) -> bool) -> Option<usize> {
    let mut before = None;
    let ends = |&(at, c): &(usize, char)| {
        let escaped = before == Some('\\');
        before = Some(c);
        let next = value.get(at + c.len_utf8()..).unwrap_or_default();
        c == ';' || (is_space(c) && !escaped && name_of_pair(next).is_some())
    };
    value.char_indices().find(ends).map(|(at, _)| at)
}

/// The name at the beginning of a text, if `=` follows it.
fn name_of_pair(text: &str) -> Option<&str> {
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return None;
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let text = text.get(..text.floor_char_boundary(LONGEST_NAME))?;
    let end = text.find(|c| !plain(c))?;
    let (name, after) = text.split_at(end);
    after.trim_start().starts_with('=').then_some(name)
}

fn is_libpq(name: &str) -> bool {
    LIBPQ.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The length of the value at the beginning of `text`, if only pairs of libpq follow it.
fn libpq_value(text: &str) -> Option<usize> {
    let end = libpq_value_end(text)?;
    let mut rest = text.get(end..)?.trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let name = name_of_pair(rest).filter(|name| is_libpq(name))?;
        let value = rest.get(name.len()..)?.trim_start().strip_prefix('=')?.trim_start();
        rest = value.get(libpq_value_end(value)?..)?.trim_start();
    }
    Some(end)
}

fn libpq_value_end(text: &str) -> Option<usize> {
    if text.starts_with('\'') {
        return escaped_close(text).map(|close| close + 1);
    }
    let mut escaped = false;
    let ends = |c: char| {
        let found = !escaped && c.is_whitespace();
        escaped = !escaped && c == '\\';
        found
    };
    Some(text.find(ends).unwrap_or(text.len()))
}
