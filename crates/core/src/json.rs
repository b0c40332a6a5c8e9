//! JSON kept as text, so that what the report server wrote reaches the receiver digit for digit.

use serde_json::value::RawValue;

/// Writes a JSON value without the white space between its tokens.
///
/// Key order, numbers and escapes stay as they were; a value tree would round numbers and merge
/// keys.
#[must_use]
pub fn compact(value: &RawValue) -> String {
    let mut out = String::with_capacity(value.get().len());
    let (mut in_string, mut escaped) = (false, false);
    for c in value.get().chars() {
        if in_string {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if !c.is_ascii_whitespace() {
            out.push(c);
            in_string = c == '"';
        }
    }
    out
}

/// Appends a text as a JSON string, quotes included.
pub fn push_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compacted(text: &str) -> String {
        compact(serde_json::from_str::<&RawValue>(text).unwrap())
    }

    #[test]
    fn only_white_space_between_tokens_goes() {
        let text =
            "{ \"b\" : 1.50,\n\t\"a\": [ null , \"x \\\" y\" ], \"n\": 12345678901234567890123 }";
        let expected = "{\"b\":1.50,\"a\":[null,\"x \\\" y\"],\"n\":12345678901234567890123}";
        assert_eq!(compacted(text), expected);
    }

    proptest! {
        #[test]
        fn strings_survive(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(compacted(&json), json);
        }
    }
}
