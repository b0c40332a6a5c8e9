//! What differs between two servers, and what does not.

use serde_json::json;

use super::*;
use crate::filter::Filters;
use crate::name::Name;
use crate::signature::ms_signature;
use crate::webhook::{Headers, Pacing, Properties, Secret};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

fn id(number: u8) -> WebhookId {
    WebhookId(uuid::Uuid::from_bytes([number; 16]))
}

fn webhook(number: u8, url: &str, secret: &str) -> Webhook {
    Webhook {
        id: id(number),
        owner: Name::parse("anna").unwrap(),
        uri: url.parse().unwrap(),
        secrets: vec![secret.parse().unwrap()],
        description: None,
        paused: false,
        paused_reason: None,
        hold: false,
        held_since: None,
        filters: Filters::parse::<&str>(&[]).unwrap(),
        headers: Headers::default(),
        properties: Properties::default(),
        created_at: time(0),
        failing_since: None,
        rate_limit: None,
        pacing: Pacing::default(),
    }
}

fn notification(resource: &str, action: &str, name: &str) -> Value {
    json!({ "Action": "reports", "UserAction": action, "Id": resource, "Name": name })
}

fn ours(webhook: u8, at: i64, notification: &Value) -> Ours {
    let notification = notification.as_object().unwrap().clone();
    Ours { webhook: id(webhook), at: time(at), notification }
}

fn post(at: i64, url: &str, secret: &str, notification: &Value) -> Post {
    let body = json!({
        "Id": format!("{at}"), "Attempt": 1, "Properties": {}, "Notifications": [notification],
    });
    line(at, url, secret, &body.to_string())
}

fn line(at: i64, url: &str, secret: &str, body: &str) -> Post {
    let secret: Secret = secret.parse().unwrap();
    let signature = ("Ms-Signature".to_owned(), ms_signature(&secret, body.as_bytes()));
    let headers = [signature, ("X-Key".to_owned(), "1".to_owned())].into();
    let (url, body) = (Some(url.to_owned()), Value::from(body));
    Post::of(RecordLine { time: time(at), url, headers, body }).unwrap().unwrap()
}

fn compared(webhooks: &[Webhook], ours: &[Ours], posts: &[Post]) -> Compared {
    let (window, from, to) = (TimeDelta::seconds(60), time(0), time(1000));
    let posts: Vec<_> = posts.iter().map(|post| post.clone().attributed(webhooks)).collect();
    compare(&Comparing { ours, posts: &posts, window, from, to })
}

fn codes(compared: &Compared) -> Vec<(&'static str, Option<WebhookId>)> {
    compared.differences.iter().map(|it| (it.what.code(), it.webhook)).collect()
}

const URL: &str = "http://receiver.example/a";

#[test]
fn the_same_notification_is_recognised_by_resource_action_and_time() {
    let webhooks = [webhook(1, URL, SECRET)];
    let ours = [
        ours(1, 10, &notification("r1", "upload", "a")),
        ours(1, 500, &notification("r1", "upload", "a")),
    ];
    let theirs = notification("r1", "Upload", "a");
    let posts = [post(12, URL, SECRET, &theirs), post(501, URL, SECRET, &theirs)];
    let result = compared(&webhooks, &ours, &posts);
    assert_eq!((result.there, result.here, result.same), (2, 2, 2));
    assert_eq!(result.differences, []);
    // Too far apart.
    let late = [post(12, URL, SECRET, &theirs), post(561, URL, SECRET, &theirs)];
    let result = compared(&webhooks, &ours, &late);
    let both = [("missing-there", Some(id(1))), ("missing-here", Some(id(1)))];
    assert_eq!(codes(&result), both);
    // A repetition has the id of the first POST.
    let [first, second] = posts;
    let result = compared(&webhooks, &ours, &[first.clone(), first, second]);
    assert_eq!((result.there, result.differences.len()), (2, 0));
}

#[test]
fn what_only_one_of_the_two_sends_is_named() {
    let webhooks = [webhook(1, URL, SECRET), webhook(2, "http://receiver.example/b", OTHER)];
    let ours = [
        ours(1, 10, &notification("r1", "upload", "a")),
        // Before the record began.
        ours(1, -10, &notification("r0", "upload", "a")),
    ];
    let posts = [
        post(20, "http://receiver.example/b", OTHER, &notification("r1", "upload", "a")),
        post(30, "http://receiver.example/c", SECRET, &notification("r2", "upload", "a")),
        post(40, "http://other.example/", &"x".repeat(32), &notification("r3", "upload", "a")),
    ];
    let result = compared(&webhooks, &ours, &posts);
    let expected = [
        ("missing-there", Some(id(1))),
        ("missing-here", Some(id(2))),
        // Behind a proxy, the signature says whose it is.
        ("missing-here", Some(id(1))),
        ("no-webhook", None),
    ];
    assert_eq!(codes(&result), expected);
    assert_eq!((result.here, result.there, result.same), (1, 3, 0));
}

#[test]
fn members_and_settings_that_differ_are_named() {
    let mut own = webhook(1, URL, SECRET);
    own.headers = Headers::parse([
        ("x-key".to_owned(), "1".to_owned()),
        ("X-Other".to_owned(), "2".to_owned()),
    ])
    .unwrap();
    let team = json!({ "Team": "a" });
    own.properties = Properties::parse(team.as_object().unwrap().clone()).unwrap();
    let here =
        json!({ "Action": "reports", "UserAction": "upload", "Id": "r1", "A": "***", "B": null });
    let there =
        json!({ "Action": "reports", "UserAction": "upload", "Id": "r1", "A": "x", "C": 1 });
    let posts = [post(1, URL, OTHER, &there), post(2, URL, OTHER, &there)];
    let ours = [ours(1, 1, &here), ours(1, 2, &here)];
    let result = compared(&[own], &ours, &posts);
    let what: Vec<&What> = result.differences.iter().map(|it| &it.what).collect();
    let key = Key { event_type: "reports.upload".to_owned(), resource: "r1".to_owned() };
    let members = ["A", "B (only here)", "C (only there)"].map(str::to_owned).to_vec();
    let members = What::Members(key, members);
    let other = What::Header("X-Other".to_owned(), 2);
    assert_eq!(what, [&What::Secret(2), &What::Properties(2), &other, &members, &members]);
}

#[test]
fn webhooks_with_one_address_are_told_apart_by_their_secrets() {
    let webhooks = [webhook(1, URL, SECRET), webhook(2, URL, OTHER)];
    let it = notification("r1", "upload", "a");
    let result = compared(&webhooks, &[ours(1, 1, &it)], &[post(1, URL, OTHER, &it)]);
    assert_eq!(codes(&result), [("missing-there", Some(id(1))), ("missing-here", Some(id(2)))]);
    let result = compared(&webhooks, &[ours(2, 1, &it)], &[post(1, URL, OTHER, &it)]);
    assert_eq!(codes(&result), []);
}

#[test]
fn a_line_has_a_post_or_only_a_time() {
    let read = |text: &str| Post::of(serde_json::from_str(text).unwrap());
    assert!(read(r#"{"time":"2026-11-30T03:00:00Z"}"#).unwrap().is_none());
    let body = r#"{"Id":"1","Notifications":[]}"#;
    let as_json = format!(r#"{{"time":"2026-11-30T03:00:00Z","body":{body}}}"#);
    assert!(read(&as_json).unwrap().unwrap().signed.is_none());
    assert!(read(r#"{"time":"2026-11-30T03:00:00Z","body":"hello"}"#).is_err());
}
