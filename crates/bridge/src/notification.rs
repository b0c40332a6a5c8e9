//! What the report server posts to its webhooks, as events.
//!
//! The body has an id, which stays the same when the server repeats the POST, and notifications. Each
//! becomes one event. What can't be one is published all the same: the router refuses it with the
//! reason, and its dead letter keeps it for a person.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use fanfare_core::filter::Filter;
use fanfare_core::json::{compact, push_string, without_byte_order_mark};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The category in the subject of a report whose category is not known. No category has this id, so
/// that only those match who may read any report, or this one.
const UNKNOWN_CATEGORY: &str = "unknown";

/// A POST of the report server.
#[derive(Debug)]
pub struct Post {
    /// The id that all repetitions of the POST have.
    pub id: String,
    /// Its notifications, in order.
    pub notifications: Vec<Notification>,
}

/// Why a body is not a POST of the report server.
#[derive(Debug, thiserror::Error)]
pub enum BadPost {
    /// It is not JSON, or not an object with an id and notifications.
    #[error("the body is not what the report server sends to webhooks: {0}")]
    Form(#[from] serde_json::Error),
    /// The id can't be the beginning of an event's id.
    #[error("the body's Id is empty, or longer than {MAX_ID} bytes")]
    Id,
}

/// The longest id of a POST, in bytes. The report server's have 32; an event's id may have 1,024.
const MAX_ID: usize = 256;

/// One notification, flat as the report server sends it.
#[derive(Debug)]
pub struct Notification {
    action: Option<String>,
    user_action: Option<String>,
    id: Option<String>,
    category: Option<String>,
    /// All members but `Action` and `UserAction`: compact JSON, in order, with nulls.
    data: String,
}

/// What all events of a POST have in common.
#[derive(Debug, Clone, Copy)]
pub struct Receipt<'a> {
    /// The attribute `source`: names the report server.
    pub source: &'a str,
    /// The id of the POST.
    pub post: &'a str,
    /// The time at which it came first.
    pub at: DateTime<Utc>,
    /// The newest directory revision that was published; `None` before the first.
    pub revision: Option<i64>,
}

impl Post {
    /// Reads the body of a POST.
    ///
    /// # Errors
    ///
    /// [`BadPost`]: it is not one of the report server.
    pub fn parse(body: &[u8]) -> Result<Self, BadPost> {
        let body: Body = serde_json::from_slice(without_byte_order_mark(body))?;
        if body.id.is_empty() || body.id.len() > MAX_ID {
            return Err(BadPost::Id);
        }
        let notifications = body.notifications.iter().map(Notification::of).collect();
        Ok(Self { id: body.id, notifications })
    }
}

impl Notification {
    fn of(Members(members): &Members) -> Self {
        let member = |name| members.iter().find(|(it, _)| it == name);
        let text = |name| {
            let (_, value) = member(name)?;
            serde_json::from_str::<String>(value.get()).ok().filter(|text| !text.is_empty())
        };
        let mut data = String::from("{");
        let rest = members.iter().filter(|(name, _)| name != "Action" && name != "UserAction");
        for (index, (name, value)) in rest.enumerate() {
            if index > 0 {
                data.push(',');
            }
            push_string(&mut data, name);
            data.push(':');
            data.push_str(&compact(value));
        }
        data.push('}');
        Self {
            action: text("Action"),
            user_action: text("UserAction"),
            id: text("Id"),
            category: text("CategoryId"),
            data,
        }
    }

    /// The report whose category the notification does not have; `None` if it is not about a report,
    /// or has it.
    #[must_use]
    pub fn report_without_category(&self) -> Option<&str> {
        let is_report = self.filter() == Some(Filter::Reports) && self.category.is_none();
        self.id.as_deref().filter(|_| is_report)
    }

    /// The report that the notification is about, and its category.
    #[must_use]
    pub fn report_and_category(&self) -> Option<(&str, &str)> {
        let category =
            self.category.as_deref().filter(|_| self.filter() == Some(Filter::Reports))?;
        Some((self.id.as_deref()?, category))
    }

    /// The resource whose deletion it reports: its filter and its id.
    #[must_use]
    pub fn deleted(&self) -> Option<(Filter, &str)> {
        let deletes = self.user_action.as_deref()?.eq_ignore_ascii_case("delete");
        Some((self.filter()?, self.id.as_deref()?)).filter(|_| deletes)
    }

    fn filter(&self) -> Option<Filter> {
        Filter::parse(self.action.as_deref()?)
    }

    /// The type of the event, which is also its routing key. An action that is unknown or missing
    /// makes a type that the router refuses.
    #[must_use]
    pub fn event_type(&self) -> String {
        let part = |part: &Option<String>| {
            part.as_deref().map_or_else(|| "unknown".to_owned(), str::to_ascii_lowercase)
        };
        format!("{}.{}", part(&self.action), part(&self.user_action))
    }

    /// The path of the resource; empty for one that can't be named, which the router refuses.
    fn subject(&self, category: Option<&str>) -> String {
        let Some((filter, id)) = self.filter().zip(self.id.as_deref()) else {
            return String::new();
        };
        match filter {
            Filter::Reports => {
                let category = self.category.as_deref().or(category).unwrap_or(UNKNOWN_CATEGORY);
                format!("categories/{category}/reports/{id}")
            }
            other => format!("{other}/{id}"),
        }
    }

    /// The event: structured `CloudEvents` JSON. `index` is the notification's position in the POST,
    /// and `category` what is known of a report whose category it does not have.
    #[must_use]
    pub fn event(&self, receipt: Receipt<'_>, index: usize, category: Option<&str>) -> String {
        let time = receipt.at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut event = String::from(r#"{"specversion":"1.0","id":"#);
        push_string(&mut event, &format!("{}-{index}", receipt.post));
        for (name, value) in [
            ("source", receipt.source),
            ("type", &self.event_type()),
            ("time", &time),
            ("subject", &self.subject(category)),
        ] {
            event.push(',');
            push_string(&mut event, name);
            event.push(':');
            push_string(&mut event, value);
        }
        if let Some(revision) = receipt.revision {
            // As text: CloudEvents allows 32 bits for a number.
            event.push_str(r#","accessrevision":"#);
            push_string(&mut event, &revision.to_string());
        }
        event.push_str(r#","datacontenttype":"application/json","data":"#);
        event.push_str(&self.data);
        event.push('}');
        event
    }
}

/// The body of a POST. Other members don't matter.
#[derive(serde::Deserialize)]
struct Body {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Notifications")]
    notifications: Vec<Members>,
}

/// The members of an object as they were sent, in order. Of a name that is there twice, the first is
/// used and both are passed on.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(entry) = map.next_entry()? {
            members.push(entry);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn post(notifications: &Value) -> Post {
        let body = json!({ "Id": "6d2f", "Attempt": 1, "Notifications": notifications });
        Post::parse(body.to_string().as_bytes()).unwrap()
    }

    fn receipt(post: &Post) -> Receipt<'_> {
        let at = DateTime::from_timestamp(1_764_000_000, 5_000_000).unwrap();
        Receipt { source: "/report-server/main", post: &post.id, at, revision: Some(412) }
    }

    fn event(notification: &Value, category: Option<&str>) -> Value {
        let post = post(&json!([notification]));
        let event = post.notifications[0].event(receipt(&post), 0, category);
        serde_json::from_str(&event).unwrap()
    }

    #[test]
    fn a_notification_is_an_event_with_its_members_in_order() {
        let body = "\u{feff}{\r\n  \"Id\": \"6d2f\",\r\n  \"Attempt\": 2,\r\n  \"Properties\": {},\r\n  \
                    \"Notifications\": [ { \"Action\": \"reports\", \"UserAction\": \"Upload\", \
                    \"Id\": \"91ab\", \"Revision\": null, \"Size\": 1.50, \"CategoryId\": \"c41d\" } ]\r\n}";
        let post = Post::parse(body.as_bytes()).unwrap();
        let event = post.notifications[0].event(receipt(&post), 0, None);
        let expected = "{\"specversion\":\"1.0\",\"id\":\"6d2f-0\",\"source\":\"/report-server/main\",\
                        \"type\":\"reports.upload\",\"time\":\"2025-11-24T16:00:00.005Z\",\
                        \"subject\":\"categories/c41d/reports/91ab\",\"accessrevision\":\"412\",\
                        \"datacontenttype\":\"application/json\",\
                        \"data\":{\"Id\":\"91ab\",\"Revision\":null,\"Size\":1.50,\"CategoryId\":\"c41d\"}}";
        assert_eq!(event, expected);
    }

    #[test]
    fn the_path_of_each_resource_is_its_subject() {
        for (action, path) in [
            ("Categories", "categories/x1"),
            ("connections", "connections/x1"),
            ("tasks", "tasks/x1"),
            ("alerts", "alerts/x1"),
        ] {
            let event = event(&json!({ "Action": action, "UserAction": "edit", "Id": "x1" }), None);
            assert_eq!(event["subject"], path);
        }
    }

    #[test]
    fn a_report_without_category_takes_the_known_one_or_none_that_anybody_has() {
        let deleted =
            json!({ "Action": "reports", "UserAction": "delete", "Id": "r1", "CategoryId": null });
        assert_eq!(event(&deleted, Some("c1"))["subject"], "categories/c1/reports/r1");
        assert_eq!(event(&deleted, None)["subject"], "categories/unknown/reports/r1");
        let post = post(&json!([deleted]));
        assert_eq!(post.notifications[0].report_without_category(), Some("r1"));
        assert_eq!(post.notifications[0].deleted(), Some((Filter::Reports, "r1")));
    }

    #[test]
    fn what_is_no_event_has_a_type_or_subject_that_the_router_refuses() {
        let unknown = event(&json!({ "Action": "licences", "UserAction": "buy", "Id": "x" }), None);
        assert_eq!((&unknown["type"], &unknown["subject"]), (&json!("licences.buy"), &json!("")));
        let nameless = event(&json!({ "Action": "tasks", "UserAction": "edit" }), None);
        assert_eq!((&nameless["type"], &nameless["subject"]), (&json!("tasks.edit"), &json!("")));
        let empty = event(&json!({}), None);
        assert_eq!((&empty["type"], &empty["data"]), (&json!("unknown.unknown"), &json!({})));
    }

    #[test]
    fn several_notifications_have_ids_of_their_own_that_stay_when_the_post_is_repeated() {
        let one = json!({ "Action": "tasks", "UserAction": "edit", "Id": "t1" });
        let post = post(&json!([one, one]));
        let ids = post.notifications.iter().enumerate().map(|(index, notification)| {
            let event: Value =
                serde_json::from_str(&notification.event(receipt(&post), index, None)).unwrap();
            event["id"].clone()
        });
        assert_eq!(ids.collect::<Vec<_>>(), ["6d2f-0", "6d2f-1"]);
    }

    #[test]
    fn a_body_that_is_no_post_is_refused() {
        let long = json!({ "Id": "x".repeat(300), "Notifications": [] }).to_string();
        for body in [
            "",
            "[]",
            "{}",
            r#"{"Id":"","Notifications":[]}"#,
            r#"{"Id":1,"Notifications":[]}"#,
            &long,
        ] {
            assert!(Post::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
