//! The extensions of JSON (RFC 8259) that Json.NET accepts, rewritten as JSON: texts in single
//! quotes, names without quotes, comments, line ends within texts, and a comma after the last
//! element. People use them where a shell removes double quotes: `curl -d
//! "{WebHookUri:'https://…'}"`.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

struct Rewriter<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    json: String,
    /// Whether a comma waits to be written; it is left out if no element follows.
    comma: bool,
}

/// Rewrites a text. Returns `None` if a comment or a text in quotes has no end. The result need not
/// be valid JSON.
pub(super) fn to_json(text: &str) -> Option<String> {
    let json = String::with_capacity(text.len() + 16);
    let mut it = Rewriter { text, rest: text.char_indices().peekable(), json, comma: false };
    while let Some((at, c)) = it.rest.next() {
        match c {
            // White space and comments separate words.
            c if c.is_whitespace() => it.json.push(' '),
            '/' => {
                it.comment()?;
                it.json.push(' ');
            }
            ',' => {
                it.flush(c);
                it.comma = true;
            }
            '"' | '\'' => {
                it.flush(c);
                it.quoted(c)?;
            }
            c => {
                it.flush(c);
                it.bare(at, c);
            }
        }
    }
    Some(it.json)
}

impl Rewriter<'_> {
    /// Writes the comma that waits, unless no element follows it.
    fn flush(&mut self, next: char) {
        if std::mem::take(&mut self.comma) && !matches!(next, ']' | '}') {
            self.json.push(',');
        }
    }

    fn comment(&mut self) -> Option<()> {
        match self.rest.next()?.1 {
            '/' => {
                while self.rest.next_if(|(_, c)| !matches!(c, '\n' | '\r')).is_some() {}
                Some(())
            }
            '*' => {
                let mut before = ' ';
                loop {
                    match self.rest.next()?.1 {
                        '/' if before == '*' => return Some(()),
                        c => before = c,
                    }
                }
            }
            _ => None,
        }
    }

    /// Rewrites the rest of a text that began with this quote.
    fn quoted(&mut self, quote: char) -> Option<()> {
        self.json.push('"');
        loop {
            match self.rest.next()?.1 {
                c if c == quote => break,
                '\\' => match self.rest.next()?.1 {
                    '\'' => self.json.push('\''),
                    c => self.json.extend(['\\', c]),
                },
                '"' => self.json.push_str("\\\""),
                c if c < ' ' => write!(self.json, "\\u{:04x}", u32::from(c)).ok()?,
                c => self.json.push(c),
            }
        }
        self.json.push('"');
        Some(())
    }

    /// Rewrites any other token. A word before a colon is a name, and gets quotes.
    fn bare(&mut self, at: usize, c: char) {
        let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        if !in_word(c) || c.is_ascii_digit() {
            self.json.push(c);
            // A number is copied as a whole, so that its letters don't count as a word.
            if c.is_ascii_digit() {
                while let Some((_, c)) = self.rest.next_if(|(_, c)| in_word(*c)) {
                    self.json.push(c);
                }
            }
            return;
        }
        let mut end = at + c.len_utf8();
        while let Some((at, c)) = self.rest.next_if(|(_, c)| in_word(*c)) {
            end = at + c.len_utf8();
        }
        let word = self.text.get(at..end).unwrap_or_default();
        let is_name = self.text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
        if is_name {
            self.json.extend(["\"", word, "\""]);
        } else {
            self.json.push_str(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let json = to_json(text);
        let read = json.and_then(|json| serde_json::from_str::<Value>(&json).ok());
        assert_eq!(read.map(|it| it.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn extensions_of_json_net_are_rewritten_as_json() {
        check("{'a':'b'}", Some(r#"{"a":"b"}"#));
        check("{a:1.5e3, b_2 : true,$c:null,}", Some(r#"{"a":1500.0,"b_2":true,"$c":null}"#));
        check("/* a */{a:[1,2,],// b\n'c':[]}", Some(r#"{"a":[1,2],"c":[]}"#));
        check(r#"{'a':'it\'s "b" \u0041\\'}"#, Some(r#"{"a":"it's \"b\" A\\"}"#));
        check("{\"a\":\"b\nc\"}", Some(r#"{"a":"b\nc"}"#));
        check(r#"{"a":"'b' // c"}"#, Some(r#"{"a":"'b' // c"}"#));
        check("{ä:-1}", Some(r#"{"ä":-1}"#));
    }

    #[test]
    fn other_malformed_texts_are_refused() {
        for text in ["{a:1 0}", "{a:tr/**/ue}", "{a:1//\n0}", "{a:- 1}", "{a b:1}"] {
            check(text, None);
        }
        for text in ["{'a':'b}", "{/* a", "{a:b}", "{a:1,,b:2}", "{,}x", "{a:0x1}", "/a", "'a", "{"]
        {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn valid_json_keeps_its_value(text in "\\PC*", n in any::<i64>(), x in any::<f64>()) {
            let json = serde_json::json!({ text.clone(): [text, n, x, null, true, {}] });
            let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            let (json, rewritten) = (json.to_string(), to_json(&json.to_string()).unwrap());
            prop_assert_eq!(read(&rewritten), read(&json));
        }

        #[test]
        fn any_text_is_processed_without_a_panic(text in "\\PC*|[a-z'\"/*,:{}\\[\\] \\\\0-9\n]*") {
            let _ = to_json(&text);
        }
    }
}
