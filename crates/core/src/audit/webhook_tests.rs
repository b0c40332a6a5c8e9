//! Entries about webhooks have what changed, and nothing that is confidential.

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::webhook::{Headers, Pacing, Properties, Secret};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn webhook() -> Webhook {
    Webhook {
        id: WebhookId(Uuid::from_u128(1)),
        owner: Name::parse("Anna").unwrap(),
        uri: "https://example.org/hook".parse().unwrap(),
        secrets: vec![SECRET.parse().unwrap()],
        description: Some("orders".to_owned()),
        paused: false,
        paused_reason: None,
        filters: Filters::parse(&["reports.delete"]).unwrap(),
        headers: Headers::parse([("X-Key".to_owned(), "k-value".to_owned())]).unwrap(),
        properties: Properties::parse(Map::new()).unwrap(),
        created_at: DateTime::UNIX_EPOCH,
        failing_since: None,
        rate_limit: None,
        pacing: Pacing::default(),
        hold: false,
        held_since: None,
    }
}

#[test]
fn equal_webhooks_have_no_changes() {
    assert_eq!(changes(&webhook(), &webhook()), []);
}

#[test]
fn a_change_has_only_the_members_that_differ() {
    let after = Webhook { description: None, rate_limit: Some(5), ..webhook() };
    let entries = changes(&webhook(), &after);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.action(), Action::WebhookChanged);
    assert_eq!(entry.before(), Some(&json!({ "description": "orders", "rateLimit": null })));
    assert_eq!(entry.after(), Some(&json!({ "description": null, "rateLimit": 5 })));
    assert_eq!((entry.owner(), entry.webhook()), (Some(&after.owner), Some(after.id)));
}

#[test]
fn each_kind_of_change_has_its_entry() {
    let secret: Secret = "fedcba9876543210fedcba9876543210".parse().unwrap();
    let after = Webhook {
        secrets: vec![secret],
        paused: true,
        headers: Headers::parse([("X-Key".to_owned(), "other".to_owned())]).unwrap(),
        ..webhook()
    };
    let actions: Vec<Action> = changes(&webhook(), &after).iter().map(Entry::action).collect();
    let expected = [Action::WebhookChanged, Action::WebhookSecretRotated, Action::WebhookPaused];
    assert_eq!(actions, expected);
    let back: Vec<Action> = changes(&after, &webhook()).iter().map(Entry::action).collect();
    assert_eq!(back.last(), Some(&Action::WebhookResumed));
}

#[test]
fn a_pause_that_changes_nothing_has_no_entry() {
    let (id, owner) = (webhook().id, webhook().owner);
    let active = Pause { paused: false, reason: None, hold: false };
    let gone = Pause { paused: true, reason: Some(PauseReason::Gone), hold: false };
    assert_eq!(paused(id, &owner, &gone, &gone), None);
    let entry = paused(id, &owner, &active, &gone).unwrap();
    assert_eq!(entry.after(), Some(&json!({ "paused": true, "pausedReason": "gone" })));
    let resumed = paused(id, &owner, &gone, &active).unwrap();
    assert_eq!(resumed.action(), Action::WebhookResumed);
}

#[track_caller]
fn check_url(stored: &str, expected: &str) {
    let id = webhook().id;
    let shown = url(id, stored);
    let expected = expected.replace("{s}", &fingerprint(id, "s3cret"));
    assert_eq!(shown, expected);
}

#[test]
fn credentials_of_an_address_are_fingerprints() {
    check_url("https://example.org:8443/a?noecho", "https://example.org:8443/a?noecho");
    check_url("https://example.org/a?sig=s3cret&x=", "https://example.org/a?sig={s}&x=");
    check_url("https://example.org/?s3cret", "https://example.org/?{s}");
    check_url("https://example.org/#s3cret", "https://example.org/#{s}");
    let user = fingerprint(webhook().id, "anna:pw");
    check_url("http://anna:pw@example.org/", &format!("http://{user}@example.org/"));
    check_url("s3cret", "{s}");
}

/// The bytes of an entry, as the store writes them.
fn written(entry: &Entry) -> String {
    format!(
        "{} {:?} {:?} {:?}",
        entry.id(),
        entry.before().map(Value::to_string),
        entry.after().map(Value::to_string),
        entry.note()
    )
}

/// A confidential text that no other part of an entry can contain by accident.
fn confidential() -> impl Strategy<Value = String> {
    "zq[a-zA-Z0-9+/ äöü€\\-]{38,100}zq"
}

proptest! {
    #[test]
    fn entries_have_no_confidential_value(
        (first, second) in (confidential(), confidential()),
        (header, other_header) in (confidential(), confidential()),
        (token, password) in ("zq[a-z0-9]{20,40}", "zq[a-z0-9]{20,40}"),
    ) {
        let uri = format!("https://anna:{password}@example.org/hook?a={token}&b=1");
        let secret = |text: &str| text.parse::<Secret>().unwrap();
        let headers = |value: &str| Headers::parse([("X".to_owned(), value.to_owned())]).unwrap();
        let before = Webhook {
            uri: uri.parse().unwrap(),
            secrets: vec![secret(&first)],
            headers: headers(&header),
            ..webhook()
        };
        let after = Webhook {
            uri: "https://example.org/".parse().unwrap(),
            secrets: vec![secret(&second), secret(&first)],
            headers: headers(&other_header),
            ..webhook()
        };
        let pause = Pause { paused: false, reason: None, hold: false };
        let unsealed = Unsealed {
            id: before.id, owner: &before.owner, uri: &uri, description: None, filters: &[], pause,
        };
        let mut entries = changes(&before, &after);
        prop_assert_eq!(entries.len(), 2);
        entries.extend(changes(&after, &before));
        entries.push(created(&before, Action::WebhookCreated));
        entries.push(secret_revealed(&after));
        entries.push(deleted(&unsealed));
        for entry in &entries {
            let written = written(entry);
            for value in [&first, &second, &header, &other_header, &token, &password] {
                prop_assert!(!written.contains(value.as_str()), "{written}");
            }
        }
    }
}
