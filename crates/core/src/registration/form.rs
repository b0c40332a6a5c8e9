//! A webhook as a form (`application/x-www-form-urlencoded`), as ASP.NET binds one.
//!
//! A list is `Filters=a&Filters=b`, `Filters[]=a` or `Filters[0]=a`; a map is `Headers[X-A]=1`,
//! `Headers.X-A=1`, or `Headers[0].Key=X-A&Headers[0].Value=1`. If a scalar occurs twice, the first
//! value counts: in ASP.NET, a check box is followed by a hidden field with the value for an
//! unchecked box. An empty value counts as absent.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use url::form_urlencoded;

/// The member that is a list.
const LIST: &str = "filters";
/// Members that are maps of texts.
const MAPS: [&str; 2] = ["headers", "properties"];
/// The member that is true or false. A form has no types, so digits are read as a number here.
const FLAG: &str = "ispaused";

/// A map that is being parsed: its entries, and by index those whose key and value are in two
/// fields.
#[derive(Default)]
struct Entries {
    whole: Map<String, Value>,
    apart: BTreeMap<String, Apart>,
}

#[derive(Default)]
struct Apart {
    key: Option<String>,
    value: String,
}

/// The members of a form by name, in lower case.
pub(super) fn members(form: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    let mut list = Vec::new();
    let mut maps: BTreeMap<String, Entries> = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(form) {
        let (name, path) = split(&key);
        let name = name.to_ascii_lowercase();
        if name == LIST {
            list.extend((!value.is_empty()).then(|| Value::from(value)));
        } else if MAPS.contains(&name.as_str()) && !path.is_empty() {
            maps.entry(name).or_default().add(path, value.into_owned());
        } else if path.is_empty() && !value.is_empty() && !members.contains_key(&name) {
            let value = scalar(&name, &value);
            members.insert(name, value);
        }
    }
    members.insert(LIST.to_owned(), list.into());
    members.extend(maps.into_iter().map(|(name, entries)| (name, entries.into_value())));
    members
}

/// Splits the name of a field into the member and the path within it.
fn split(key: &str) -> (&str, &str) {
    key.split_at(key.find(['[', '.']).unwrap_or(key.len()))
}

fn scalar(name: &str, value: &str) -> Value {
    let number = value.parse::<Number>().ok().filter(|_| name == FLAG);
    number.map_or_else(|| value.into(), Value::Number)
}

impl Entries {
    fn add(&mut self, path: &str, value: String) {
        let (key, rest) = match path.strip_prefix('[').and_then(|path| path.split_once(']')) {
            Some(split) => split,
            None => (path.trim_start_matches(['[', '.']), ""),
        };
        match rest.trim_matches(['[', ']', '.']).to_ascii_lowercase().as_str() {
            "key" => self.apart.entry(key.to_owned()).or_default().key = Some(value),
            "value" => self.apart.entry(key.to_owned()).or_default().value = value,
            _ => drop(self.whole.insert(key.to_owned(), value.into())),
        }
    }

    fn into_value(mut self) -> Value {
        let named = self.apart.into_values().filter_map(|it| Some((it.key?, it.value.into())));
        self.whole.extend(named);
        Value::Object(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(form: &str, expected: &Value) {
        let mut members = Value::Object(members(form.as_bytes()));
        if members["filters"] == json!([]) {
            members.as_object_mut().unwrap().remove("filters");
        }
        assert_eq!(members, *expected, "{form}");
    }

    #[test]
    fn lists_and_maps_are_read_in_every_notation_of_asp_net() {
        let filters = json!({ "filters": ["tasks", "reports"] });
        check("Filters=tasks&filters=reports", &filters);
        check("Filters%5B%5D=tasks&Filters[]=reports", &filters);
        check("Filters[0]=tasks&Filters[1]=reports&Filters[2]=", &filters);
        let headers = json!({ "headers": { "X-A": "1", "X.B": "2 3" } });
        check("Headers[X-A]=1&HEADERS[X.B]=2+3", &headers);
        check("Headers.X-A=1&Headers.X.B=2+3", &headers);
        check(
            "Headers[0].Key=X-A&Headers[0].Value=1&Headers[1][value]=2+3&Headers[1][key]=X.B",
            &headers,
        );
        check(
            "Properties[key]=v&Properties[n]=",
            &json!({ "properties": { "key": "v", "n": "" } }),
        );
    }

    #[test]
    fn the_first_value_of_a_duplicate_scalar_counts() {
        check("IsPaused=true&IsPaused=false", &json!({ "ispaused": "true" }));
        check("IsPaused=1&Secret=1", &json!({ "ispaused": 1, "secret": "1" }));
        check("Secret=&Description=a%20b&x", &json!({ "description": "a b" }));
        check("Headers=x&WebHookUri[0]=y", &json!({ "headers": "x" }));
    }
}
