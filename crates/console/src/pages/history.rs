//! Entries of the audit trail as pages show them.

use fanfare_store::audit::AuditRecord;
use serde_json::{Map, Value};

use super::components::{Moment, shortened};
use super::{WEBHOOKS, text};

/// The length of a value that is shown, in characters.
const SHOWN: usize = 200;

/// An entry.
pub(super) struct Row {
    pub(super) at: Moment,
    /// The name of the person, or that of the service.
    pub(super) actor: String,
    pub(super) door: &'static str,
    pub(super) address: Option<String>,
    pub(super) action: String,
    /// The object, if it is not the webhook.
    pub(super) object: Option<String>,
    /// The webhook's id and the path of its page.
    pub(super) webhook: Option<(String, String)>,
    pub(super) owner: Option<String>,
    pub(super) changes: Vec<Change>,
}

/// A member that changed.
pub(super) struct Change {
    pub(super) member: String,
    /// Its value before; `None` when there was none.
    pub(super) before: Option<String>,
    /// Its value after; `None` when there is none.
    pub(super) after: Option<String>,
}

/// The row of an entry.
pub(super) fn row(entry: &AuditRecord) -> Row {
    let (kind, id) = &entry.object;
    let webhook = entry.webhook.map(|id| (id.to_string(), format!("{WEBHOOKS}/{id}")));
    Row {
        at: Moment(entry.position.at),
        actor: entry.actor.clone().unwrap_or_else(|| "the service".to_owned()),
        door: text::door(&entry.door),
        address: entry.address.clone(),
        action: text::action(&entry.action).to_owned(),
        object: (kind != "webhook").then(|| format!("{kind} {}", shortened(id, SHOWN))),
        webhook,
        owner: entry.owner.clone(),
        changes: changes(entry.before.as_ref(), entry.after.as_ref()),
    }
}

/// The members of both objects, in the order of the first one that has each.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let nothing = Map::new();
    let members = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let (before, after) = (members(before), members(after));
    let (before, after) = (before.as_ref().unwrap_or(&nothing), after.as_ref().unwrap_or(&nothing));
    let only_after = after.keys().filter(|name| !before.contains_key(*name));
    let change = |name: &String| Change {
        member: name.clone(),
        before: before.get(name).map(shown),
        after: after.get(name).map(shown),
    };
    before.keys().chain(only_after).map(change).collect()
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name}: {}", shown(value));
            members.iter().map(member).collect::<Vec<_>>().join(", ")
        }
    };
    let text = if text.is_empty() { "none".to_owned() } else { text };
    shortened(&text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_have_each_member_once() {
        let before = json!({ "url": "a", "paused": false });
        let after = json!({ "headers": { "X": "sha256:1" }, "paused": true, "filters": [] });
        let shown: Vec<String> = changes(Some(&before), Some(&after))
            .iter()
            .map(|it| format!("{} {:?} {:?}", it.member, it.before, it.after))
            .collect();
        assert_eq!(
            shown,
            [
                r#"url Some("a") None"#,
                r#"paused Some("no") Some("yes")"#,
                r#"headers None Some("X: sha256:1")"#,
                r#"filters None Some("none")"#,
            ]
        );
        assert!(changes(None, None).is_empty());
    }
}
