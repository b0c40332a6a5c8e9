//! The trace context that travels with an event (W3C Trace Context, level 1).

/// Whether a text is a valid value of `traceparent`, such as
/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01` (Trace Context, section 3.2).
///
/// Ids of zeros and the version `ff` are not valid. A later version than `00` may have further
/// fields after the four known ones.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    let mut fields = text.split('-');
    let mut field = |length: usize| fields.next().filter(|field| is_lower_hex(field, length));
    let known = (field(2), field(32), field(16), field(2));
    let (Some(version), Some(trace), Some(span), Some(_)) = known else { return false };
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let may_have_more = version != "00";
    version != "ff"
        && !is_zero(trace)
        && !is_zero(span)
        && (may_have_more || fields.next().is_none())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_lower_hex(field: &str, length: usize) -> bool {
    field.len() == length
        && field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_valid_only_as_the_standard_defines() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for valid in [
            format!("00-{trace}-{span}-01"),
            format!("00-{trace}-{span}-ff"),
            format!("01-{trace}-{span}-01"),
            format!("cc-{trace}-{span}-00-what-the-future-will-be-like"),
        ] {
            assert!(is_valid(&valid), "{valid}");
        }
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for invalid in [
            String::new(),
            "x\u{df}".to_owned(),
            format!("ff-{trace}-{span}-01"),
            format!("00-{no_trace}-{span}-01"),
            format!("00-{trace}-{no_span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{trace}-{span}-01-"),
            format!("01-{trace}-{span}-01.more"),
            format!("01-{trace}-{span}-01-a b"),
            format!("01-{trace}-{span}-01-a\r\nb: c"),
            format!(" 00-{trace}-{span}-01"),
            format!("0-{trace}-{span}-01"),
            format!("00-{trace}{span}-01"),
        ] {
            assert!(!is_valid(&invalid), "{invalid}");
        }
    }
}
