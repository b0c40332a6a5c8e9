//! JSON as text: values of the report server reach the receiver unchanged, digit for digit.

use serde_json::value::RawValue;

/// The byte order mark of UTF-8, which some editors and libraries write.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Removes a byte order mark from the beginning. JSON does not allow one, and parsers may ignore it
/// (RFC 8259, section 8.1).
#[must_use]
pub fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Parses a JSON number with an integral value, in any notation: `412`, `412.0` and `4.12e2` are
/// the same. Returns `None` for a fraction, and for a number that does not fit into 64 bits.
///
/// It does not use floating-point numbers, which are exact up to 2^53 only.
#[must_use]
pub fn integer(number: &str) -> Option<i64> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let shift = i64::try_from(trailing).ok()? - i64::try_from(fraction.len()).ok()?;
    // A number of 64 bits has at most 19 digits, so a larger shift overflows it.
    let zeros = usize::try_from(shift.checked_add(exponent)?).ok().filter(|zeros| *zeros < 20)?;
    format!("{sign}{significant}{}", "0".repeat(zeros)).parse().ok()
}

/// Writes a JSON value without the white space between its tokens.
///
/// Key order, numbers and escapes stay unchanged. A tree of values would round numbers and merge
/// duplicate keys.
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
    fn compact_removes_only_white_space_between_tokens() {
        let text =
            "{ \"b\" : 1.50,\n\t\"a\": [ null , \"x \\\" y\" ], \"n\": 12345678901234567890123 }";
        let expected = "{\"b\":1.50,\"a\":[null,\"x \\\" y\"],\"n\":12345678901234567890123}";
        assert_eq!(compacted(text), expected);
    }

    #[test]
    fn an_integral_number_is_read_in_any_notation() {
        for (text, expected) in [
            ("0", 0),
            ("-0.0", 0),
            ("0e5", 0),
            ("412", 412),
            ("412.0", 412),
            ("4.12e2", 412),
            ("41200E-2", 412),
            ("412000e-3", 412),
            ("0.00412e+5", 412),
            ("-7", -7),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("9.223372036854775807e18", i64::MAX),
        ] {
            assert_eq!(integer(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "x",
            "0x1",
            "412.5",
            "4.125e2",
            "1e-1",
            "1e19",
            "1e20",
            "1e999999999999",
            "1e99999999999999999999",
            "9223372036854775808",
            "9223372036854775807.1",
            "4 12",
            "+4",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_notation_of_a_number_has_the_same_value(number: i64, zeros in 0_usize..30) {
            let zeros_text = "0".repeat(zeros);
            prop_assert_eq!(integer(&number.to_string()), Some(number));
            prop_assert_eq!(integer(&format!("{number}.{zeros_text}")), Some(number));
            prop_assert_eq!(integer(&format!("{number}{zeros_text}e-{zeros}")), Some(number));
        }

        #[test]
        fn compact_leaves_strings_unchanged(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(compacted(&json), json);
        }
    }
}
