//! JSON from a file or stdin: one value, an array, or JSON Lines, with each entry unchanged.

use std::io::Read as _;

use anyhow::Context as _;
use serde_json::value::RawValue;

/// One JSON value of the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The line at which the value begins, from 1.
    pub(crate) line: usize,
    /// The JSON, exactly as in the input.
    pub(crate) raw: &'a RawValue,
}

/// Reads a file, or stdin if the path is `-`.
pub(crate) fn read(path: &str) -> anyhow::Result<String> {
    let text = if path == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.with_context(|| {
        format!("failed to read {}; check that it exists and is UTF-8 text", shown(path))
    })
}

/// The name of a file in messages.
pub(crate) fn shown(path: &str) -> &str {
    if path == "-" { "stdin" } else { path }
}

/// Splits the text into its values. Each element of an array is an entry of its own.
pub(crate) fn entries(text: &str) -> anyhow::Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut lines = Lines { text, offset: 0, line: 1 };
    let mut rest = without_mark(text);
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let Some(raw) = values.next() else { break };
        let raw = raw.map_err(|error| {
            let line = lines.of(rest) + error.line() - 1;
            // The position in the error counts from the end of the last value.
            let error = error.to_string();
            let error = error.split(" at line ").next().unwrap_or_default();
            let problem = format!("line {line} is not JSON: {error}");
            anyhow::anyhow!("{problem}; give one object, an array, or one object per line")
        })?;
        rest = without_mark(rest.get(values.byte_offset()..).unwrap_or_default());
        if raw.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get())?;
            entries.extend(items.into_iter().map(|raw| Entry { line: lines.of(raw.get()), raw }));
        } else {
            entries.push(Entry { line: lines.of(raw.get()), raw });
        }
    }
    Ok(entries)
}

/// The text without leading white space and byte order marks. Some editors begin a file with a byte
/// order mark, and a concatenation of such files has one at the start of each.
fn without_mark(text: &str) -> &str {
    text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
}

/// Counts lines from one entry to the next.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line at which a part of the text begins. Call this for the parts in order.
    fn of(&mut self, part: &str) -> usize {
        // Entries are slices of the text, so the difference of the addresses is the offset in it.
        let offset = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let passed = self.text.as_bytes().get(self.offset..offset).unwrap_or_default();
        self.line += passed.split(|byte| *byte == b'\n').count() - 1;
        self.offset = offset;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let entries = entries(text).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.line, entry.raw.get())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn objects_arrays_and_json_lines_are_split_into_entries() {
        check("{\"a\": 1.50}", &[(1, "{\"a\": 1.50}")]);
        check("\u{feff}[1,\n2,\n\n{ }]\n", &[(1, "1"), (2, "2"), (4, "{ }")]);
        check("\u{feff}{}\n\u{feff}{ }\r\n\u{feff}", &[(1, "{}"), (2, "{ }")]);
        check("\n{\"a\":1}\r\n\r\n{\"b\":2}\r\n", &[(2, "{\"a\":1}"), (4, "{\"b\":2}")]);
        check("{\n}\n{\n}", &[(1, "{\n}"), (3, "{\n}")]);
        check("", &[]);
        check("[]", &[]);
    }

    #[test]
    fn text_that_is_not_json_is_reported_with_its_line() {
        for text in ["{\"a\":1}\n{\"b\"", "{\"a\":1}\noops\n{}", "[1,\n2"] {
            let error = entries(text).unwrap_err().to_string();
            assert!(error.starts_with("line 2 is not JSON"), "{error}");
        }
    }
}
