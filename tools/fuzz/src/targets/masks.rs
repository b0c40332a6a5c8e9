//! Masking of confidential values.

use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::mask::{MASK, MaskPolicy};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Target;
use crate::input::Input;

pub(super) const JSON: Target = Target {
    name: "mask-json",
    about: "masking of an event's data: JSON stays JSON of the same structure, and every \
            value below the name of a secret is masked",
    check: json,
};

pub(super) const SECRET: Target = Target {
    name: "mask-secret",
    about: "masking of a connection string: a password is never in the result, whatever text is \
            before and after its pair",
    check: secret,
};

pub(super) const PATH: Target = Target {
    name: "mask-path",
    about: "masking by a JSON path: the result is that of a plain evaluation of the path (RFC 9535) \
            on a tree of values",
    check: path,
};

pub(super) const COST: Target = Target {
    name: "mask-cost",
    about: "masking of a text that is repeated up to 64 KiB: its time is linear in the length",
    check: cost,
};

fn masked(policy: &MaskPolicy, data: &str) -> String {
    policy.apply(Filter::Connections, data).into_owned()
}

fn json(bytes: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) else { return };
    let policy = MaskPolicy::default();
    assert_eq!(masked(&MaskPolicy::off(), raw.get()), raw.get());
    let once = masked(&policy, raw.get());
    assert!(serde_json::from_str::<&RawValue>(&once).is_ok(), "{once}");
    let tree = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let (Some(before), Some(after)) = (tree(raw.get()), tree(&once)) {
        assert!(has_structure_of(&before, &after), "{before} became {after}");
        check_members(&after);
    }
}

/// No member of the name `password` has a value that shows something.
fn check_members(tree: &Value) {
    match tree {
        Value::Array(values) => values.iter().for_each(check_members),
        Value::Object(members) => {
            for (name, value) in members {
                let shown = value.is_number() || value.as_str().is_some_and(|text| text != MASK);
                assert!(!(shown && name.eq_ignore_ascii_case("password")), "{tree}");
                check_members(value);
            }
        }
        _ => {}
    }
}

/// Whether a value is the other one, except for the text of strings and for masked numbers.
fn has_structure_of(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| has_structure_of(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.keys().eq(other.keys())
                && one.values().zip(other.values()).all(|(a, b)| has_structure_of(a, b))
        }
        (Value::String(_), Value::String(_)) => true,
        (Value::Number(_), Value::String(text)) => text == MASK,
        (one, other) => one == other,
    }
}

/// The secret, which no other part of the input contains.
const SECRET_TEXT: &str = "S3CRET";

/// A way to spell the pair: the key, and the secret between these.
const SPELLINGS: [(&str, &str, &str); 8] = [
    ("Password", "=", ""),
    ("pwd", " = ", ""),
    ("AccountKey", "=\"", "\""),
    ("Client Secret", "='", "'"),
    ("password", "={", "}"),
    ("PWD", "=\"a\"\"b", "\""),
    ("Pwd", "='it''s ", "'"),
    ("password", "=a=b ", ""),
];

/// A spelling by its number, the text before the pair as a line, and the text after it.
fn secret(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Some((key, opening, closing)) = input.choose(&SPELLINGS) else { return };
    let before = input.text().unwrap_or_default();
    let Ok(after) = std::str::from_utf8(input.rest()) else { return };
    let text = format!("{before};{key}{opening}{SECRET_TEXT}{closing};{after}");
    if text.matches(SECRET_TEXT).count() != 1 {
        return;
    }
    let data = Value::String(text.clone()).to_string();
    let result = masked(&MaskPolicy::default(), &data);
    assert!(!result.contains(SECRET_TEXT), "{text:?} became {result}");
}

/// A selector of a path, and how it is written.
#[derive(Clone)]
enum Selector {
    Name(String),
    Index(usize),
    All,
}

struct Segment {
    anywhere: bool,
    selectors: Vec<Selector>,
}

/// The path as numbers on the first line, and JSON after it.
fn path(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut path = Input::new(input.line());
    let Ok(mut tree) = serde_json::from_slice::<Value>(input.rest()) else { return };
    without_fractions(&mut tree);
    let mut names = vec!["a".to_owned(), String::new(), "it's \"b\"\\,]".to_owned()];
    names_of(&tree, &mut names);
    let mut segments = Vec::new();
    while !path.is_empty() && segments.len() < 8 {
        segments.push(segment(&mut path, &names));
    }
    let text: String = segments.iter().map(Segment::written).collect();
    if segments.is_empty() {
        assert!(MaskPolicy::parse("reports:$").is_err());
        return;
    }
    let policy = MaskPolicy::parse(&format!("reports:${text}"));
    let policy = policy.unwrap_or_else(|error| panic!("{text}: {error}"));
    let data = tree.to_string();
    let result = policy.apply(Filter::Reports, &data).into_owned();
    let expected = evaluated(&tree, &segments, &[0]);
    let result: Value = serde_json::from_str(&result).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(result, expected, "${text} in {data}");
}

/// Replaces the numbers that do not read back as they were written.
fn without_fractions(tree: &mut Value) {
    match tree {
        Value::Array(values) => values.iter_mut().for_each(without_fractions),
        Value::Object(members) => members.values_mut().for_each(without_fractions),
        Value::Number(number) if number.is_f64() => *tree = Value::from(0),
        _ => {}
    }
}

fn names_of(tree: &Value, names: &mut Vec<String>) {
    match tree {
        Value::Array(values) => values.iter().for_each(|value| names_of(value, names)),
        Value::Object(members) => {
            for (name, value) in members {
                names.push(name.clone());
                names_of(value, names);
            }
        }
        _ => {}
    }
}

fn segment(path: &mut Input<'_>, names: &[String]) -> Segment {
    let kind = path.byte();
    let mut selectors = Vec::new();
    for _ in 0..=(kind >> 1) % 3 {
        let number = usize::from(path.byte());
        selectors.push(match number % 4 {
            0 => Selector::All,
            1 => Selector::Index(number / 4 % 4),
            _ => Selector::Name(names.get(number / 4 % names.len()).cloned().unwrap_or_default()),
        });
    }
    Segment { anywhere: kind % 2 == 1, selectors }
}

impl Segment {
    /// The segment as RFC 9535 writes it.
    fn written(&self) -> String {
        let dots = if self.anywhere { ".." } else { "" };
        let one = |selector: &Selector| match selector {
            Selector::Name(name) => Value::from(name.as_str()).to_string(),
            Selector::Index(index) => index.to_string(),
            Selector::All => "*".to_owned(),
        };
        let selectors: Vec<String> = self.selectors.iter().map(one).collect();
        format!("{dots}[{}]", selectors.join(" , "))
    }
}

/// The value with everything masked that the path selects. `matched` has the numbers of segments
/// that lead to this value.
fn evaluated(value: &Value, segments: &[Segment], matched: &[usize]) -> Value {
    if matched.contains(&segments.len()) {
        return Value::from(MASK);
    }
    let to = |name: Option<&str>, index: Option<usize>, child: &Value| {
        let mut next = Vec::new();
        for &at in matched {
            let Some(segment) = segments.get(at) else { continue };
            if segment.anywhere {
                next.push(at);
            }
            let selects = |selector: &Selector| match selector {
                Selector::All => true,
                Selector::Name(wanted) => name == Some(wanted),
                Selector::Index(wanted) => index == Some(*wanted),
            };
            if segment.selectors.iter().any(selects) {
                next.push(at + 1);
            }
        }
        evaluated(child, segments, &next)
    };
    match value {
        Value::Array(values) => {
            values.iter().enumerate().map(|(at, value)| to(None, Some(at), value)).collect()
        }
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| (name.clone(), to(Some(name), None, value));
            Value::Object(members.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

/// The longest time of the processor for a text of this length. Linear code needs a fiftieth of it,
/// and quadratic code several times as much.
const LONGEST: Duration = Duration::from_secs(1);
const LENGTH: usize = 64 * 1024;
const LONGEST_PIECE: usize = 64;

/// A beginning and a piece that is repeated after it, separated by a line end.
fn cost(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let beginning = input.text().unwrap_or_default();
    let Ok(piece) = std::str::from_utf8(input.rest()) else { return };
    if piece.is_empty() || bytes.len() > LONGEST_PIECE {
        return;
    }
    let text = format!("{beginning}{}", piece.repeat(LENGTH / piece.len()));
    let data = Value::String(text).to_string();
    let started = processor_time();
    let _ = MaskPolicy::default().apply(Filter::Connections, &data);
    let taken = processor_time().saturating_sub(started);
    assert!(taken < LONGEST, "{beginning:?} and many {piece:?} took {taken:?}");
}

/// The time that this thread has run: the time of day would count what else the machine does.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}
