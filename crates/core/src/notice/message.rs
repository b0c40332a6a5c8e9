//! The text of a notice, and its form as a `CloudEvent`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::{About, Kind, Notice, Stage};

/// The `source` of notices.
const SOURCE: &str = "/fanfare";
/// What the types of notices begin with in a `CloudEvent`.
const TYPE: &str = "fanfare.";

impl Notice {
    /// The notice in one sentence, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let webhook = self.webhook.as_ref().map_or_else(String::new, |webhook| {
            format!("The webhook {} of {} (to {})", webhook.id, webhook.owner, webhook.host)
        });
        match self.kind {
            Kind::Open(stage) => self.opened(stage, &webhook),
            Kind::Resolved(About::Webhook) => {
                format!("{webhook} is neither paused nor failing any more.")
            }
            Kind::Resolved(About::Secret) => format!("{webhook} has one secret again."),
            Kind::Resolved(About::DeadLetters) => "No more dead letters arrive.".to_owned(),
            Kind::Resolved(About::Deliveries) => {
                "Deliveries are attempted in time again.".to_owned()
            }
            Kind::Resolved(About::Directory) => "The directory is up to date again.".to_owned(),
        }
    }

    fn opened(&self, stage: Stage, webhook: &str) -> String {
        let fact = |name: &str| self.fact(name);
        match stage {
            Stage::Failing => format!("{webhook} has failed since {}.", fact("failingSince")),
            Stage::FailingForADay => format!(
                "{webhook} has failed since {}. It will be paused at {} unless it recovers.",
                fact("failingSince"),
                fact("pausesAt")
            ),
            Stage::NearPause => format!(
                "{webhook} will be paused at {} unless it recovers. It has failed since {}.",
                fact("pausesAt"),
                fact("failingSince")
            ),
            Stage::Paused => format!(
                "{webhook} was paused ({}). It gets nothing until somebody resumes it.",
                fact("reason")
            ),
            Stage::SecretEnding => {
                format!("{webhook} stops signing with its former secret at {}.", fact("endsAt"))
            }
            Stage::Arriving => {
                format!("Dead letters have arrived since {}: {}.", fact("since"), fact("count"))
            }
            Stage::Late => {
                format!("A delivery has waited for its first attempt since {}.", fact("oldest"))
            }
            Stage::Behind => format!(
                "Revisions of the directory are missing: {}. The newest one is {}.",
                fact("missing"),
                fact("newest")
            ),
            Stage::Incomplete => {
                "The directory is not complete, so every event is held. Publish a \
                 directory.snapshot, or import one."
                    .to_owned()
            }
            Stage::SnapshotRefused => {
                "A snapshot of the directory was refused, so every event is held.".to_owned()
            }
        }
    }

    /// A fact as text.
    fn fact(&self, name: &str) -> String {
        match self.facts.get(name) {
            None | Some(Value::Null) => "unknown".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The notice as a structured `CloudEvent` in JSON.
    #[must_use]
    pub fn cloud_event(&self) -> Value {
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id.simple().to_string(),
            "source": SOURCE,
            "type": format!("{TYPE}{}", self.kind.code()),
            "time": time(self.at),
            "datacontenttype": "application/json",
        });
        if let (Some(webhook), Some(event)) = (&self.webhook, event.as_object_mut()) {
            event.insert("subject".to_owned(), json!(format!("webhooks/{}", webhook.id)));
        }
        if let Some(event) = event.as_object_mut() {
            event.insert("data".to_owned(), Value::Object(self.data()));
        }
        event
    }

    /// What the notice says, for programs.
    #[must_use]
    pub fn data(&self) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("cause".to_owned(), json!(self.cause.simple().to_string()));
        data.insert("text".to_owned(), json!(self.sentence()));
        if let Some(webhook) = &self.webhook {
            data.insert("webhook".to_owned(), json!(webhook.id.to_string()));
            data.insert("owner".to_owned(), json!(webhook.owner));
            data.insert("host".to_owned(), json!(webhook.host));
        }
        data.extend(self.facts.clone());
        data
    }
}

/// A time as notices have it: in UTC, to the second.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::Concerned;
    use super::*;
    use crate::ids::WebhookId;

    #[test]
    fn notice_of_a_pause_is_this_event() {
        let notice = Notice {
            id: Uuid::from_u128(1),
            cause: Uuid::from_u128(2),
            kind: Kind::Open(Stage::Paused),
            webhook: Some(Concerned {
                id: WebhookId(Uuid::from_u128(3)),
                owner: "anna".to_owned(),
                host: "hooks.example".to_owned(),
            }),
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            facts: [("reason".to_owned(), json!("gone"))].into_iter().collect(),
        };
        let expected = json!({
            "specversion": "1.0",
            "id": "00000000000000000000000000000001",
            "source": "/fanfare",
            "type": "fanfare.webhook.paused",
            "time": "2027-01-15T08:00:00Z",
            "datacontenttype": "application/json",
            "subject": "webhooks/00000000000000000000000000000003",
            "data": {
                "cause": "00000000000000000000000000000002",
                "text": "The webhook 00000000000000000000000000000003 of anna (to hooks.example) \
                         was paused (gone). It gets nothing until somebody resumes it.",
                "webhook": "00000000000000000000000000000003",
                "owner": "anna",
                "host": "hooks.example",
                "reason": "gone",
            },
        });
        assert_eq!(notice.cloud_event(), expected);
    }

    #[test]
    fn every_type_of_notice_has_a_sentence() {
        for kind in Kind::all() {
            let (id, cause, at) = (Uuid::nil(), Uuid::nil(), DateTime::<Utc>::UNIX_EPOCH);
            let notice = Notice { id, cause, kind, webhook: None, at, facts: Map::new() };
            assert!(notice.sentence().ends_with('.'), "{}", notice.sentence());
        }
    }
}
