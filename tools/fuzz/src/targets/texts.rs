//! Short texts: names, trace contexts, numbers, and the values of settings.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::name::{Name, fold};
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::resource::Resource;
use fanfare_core::target::TargetPolicy;
use fanfare_core::{duration, hosts, json, password, traceparent};

use super::check_sentence;
use crate::Target;

pub(super) const NAME: Target = Target {
    name: "name",
    about: "a name of a user or role: all spellings by simple case mapping are equal, folding twice \
            changes nothing, and nothing beyond ASCII equals something within it",
    check: name,
};

pub(super) const TRACEPARENT: Target = Target {
    name: "traceparent",
    about: "a trace context: valid exactly by the fields of W3C Trace Context, read one by one",
    check: trace_parent,
};

pub(super) const NUMBER: Target = Target {
    name: "number",
    about: "a JSON number: an integer in any notation, exactly, as an evaluation digit by digit \
            gives it",
    check: number,
};

pub(super) const SETTING: Target = Target {
    name: "setting",
    about: "values of settings and arguments: durations, hosts, ids, networks, subjects, limits, \
            passwords: what is read is printed and read as the same",
    check: setting,
};

fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(fold(&fold(text)), fold(text));
    assert_eq!(fold(text).chars().count(), text.chars().count());
    let Some(name) = Name::parse(text) else {
        let length = text.trim().chars().count();
        let bad = text.trim().chars().any(char::is_control) || !(1..=256).contains(&length);
        assert!(bad, "{text:?} was refused");
        return;
    };
    assert_eq!(Name::parse(name.as_str()).as_ref(), Some(&name));
    let upper = name.as_str().to_ascii_uppercase();
    assert_eq!(Name::parse(&upper).as_ref(), Some(&name), "{upper:?}");
    let lower = name.as_str().to_ascii_lowercase();
    assert_eq!(Name::parse(&lower).as_ref(), Some(&name), "{lower:?}");
    for (one, folded) in name.as_str().chars().zip(name.key().chars()) {
        assert_eq!(one.is_ascii(), folded.is_ascii(), "{one:?} became {folded:?}");
    }
}

fn trace_parent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(traceparent::is_valid(text), is_trace_context(bytes), "{text:?}");
}

/// The grammar of section 3.2, byte by byte.
fn is_trace_context(bytes: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        bytes.get(range).filter(|it| it.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    let not_zero = |id: &[u8]| id.iter().any(|byte| *byte != b'0');
    let (Some(version), Some(trace), Some(span), Some(_)) =
        (hex(0..2), hex(3..35), hex(36..52), hex(53..55))
    else {
        return false;
    };
    let more = bytes.get(55..).unwrap_or_default();
    let ends = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => {
            more.is_empty()
                || (more.first() == Some(&b'-') && more.iter().all(u8::is_ascii_graphic))
        }
    };
    dash(2) && dash(35) && dash(52) && ends && not_zero(trace) && not_zero(span)
}

fn number(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = json::integer(text);
    let is_json = serde_json::from_str::<serde_json::Value>(text).is_ok_and(|it| it.is_number());
    if is_json && text.trim().len() == text.len() {
        assert_eq!(read, evaluated(text), "{text}");
    }
    if let Some(value) = read {
        assert_eq!(json::integer(&value.to_string()), Some(value));
    }
}

/// The value of a JSON number, if it is an integer of 64 bits: its digits are shifted one by one.
fn evaluated(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    if digits.iter().all(|digit| *digit == 0) {
        // Zero stays zero, unless the exponent itself is not a number of 64 bits.
        return exponent.parse::<i64>().ok().map(|_| 0);
    }
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse::<i64>().ok()?)?;
    let mut value = 0_i128;
    for (at, digit) in (0_i64..).zip(&digits) {
        if at >= point && *digit != 0 {
            return None;
        }
        if at < point {
            value = value.checked_mul(10)?.checked_add(i128::from(*digit))?;
        }
    }
    for _ in i64::try_from(digits.len()).ok()?..point {
        value = value.checked_mul(10)?;
    }
    i64::try_from(if negative { -value } else { value }).ok()
}

fn setting(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(parsed) = duration::parse(text) {
        assert_eq!(duration::parse(&format!("{}ms", parsed.as_millis())), Some(parsed));
        let seconds = duration::seconds_to_wait(parsed);
        assert!(Duration::from_secs(seconds) >= parsed);
    }
    if let Some((before, hosts, after)) = hosts::split(text) {
        assert_eq!([before, hosts, after].concat(), text);
        assert!(!hosts.contains(['/', '?', '@']), "{hosts:?}");
    }
    if let Ok(id) = text.parse::<WebhookId>() {
        let shown = id.to_string();
        assert_eq!(shown.len(), 32);
        assert_eq!(shown.parse(), Ok(id));
    }
    match Resource::parse(text) {
        Ok(resource) => assert_eq!(resource.to_string(), text),
        Err(reject) if text.len() <= 1024 => check_sentence(&reject.detail),
        Err(_) => {}
    }
    if let Ok(limit) = RateLimit::parse(text) {
        assert!(limit.over(None).is_none_or(|limit| (1..=1_000_000).contains(&limit)));
    }
    let _ = password::check(text);
    if let Ok(address) = text.parse::<IpAddr>() {
        check_address(address);
    }
}

/// An address has one verdict, whatever form of it is asked for.
fn check_address(address: IpAddr) {
    let policy = TargetPolicy::default();
    let verdict = policy.check(address).map_err(|blocked| blocked.reason());
    let canonical = policy.check(address.to_canonical()).map_err(|blocked| blocked.reason());
    assert_eq!(verdict, canonical);
    if let IpAddr::V6(v6) = address {
        let [.., a, b, c, d] = v6.octets();
        let inner = policy.check(Ipv4Addr::new(a, b, c, d).into());
        let translated = v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
        assert!(!translated || inner.is_ok() == verdict.is_ok(), "{address}");
    }
}
