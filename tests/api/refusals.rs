//! Refused requests and their messages.

use serde_json::{Value, json};

use super::client::send;
use super::{Api, QUIET, REGISTRATIONS, failure};

const SECRET: &str = "The WebHook secret key parameter must be between 32 and 128 characters long.";

fn bad_uri(uri: &str) -> String {
    format!(
        "The WebHook URI must be absolute with a scheme of either 'http' or 'https' but received \
         '{uri}'."
    )
}

fn bad_header(name: &str) -> String {
    format!(
        "The header '{name}' can't be set: the service sets it itself or it belongs to the \
         connection."
    )
}

fn bad_property(name: &str) -> String {
    format!(
        "The property '{name}' is not valid: its value must be a text, a number, true, false or \
         null."
    )
}

/// Invalid members of a webhook, each with its error message.
fn cases() -> Vec<(&'static str, Value, String)> {
    let smile = "\u{1F600}";
    let mut cases = vec![
        ("Secret", json!("x".repeat(31)), SECRET.to_owned()),
        ("Secret", json!("x".repeat(129)), SECRET.to_owned()),
        ("Secret", json!("x".repeat(900_000)), SECRET.to_owned()),
        ("Secret", json!(" "), SECRET.to_owned()),
        ("Secret", json!(smile.repeat(15)), SECRET.to_owned()),
        ("Secret", json!(smile.repeat(65)), SECRET.to_owned()),
        (
            "Filters",
            json!(["reports", "x", "tasks", "y"]),
            "The following filters are not valid: 'x, y'.".to_owned(),
        ),
        (
            "Filters",
            json!(["reports."]),
            "The following filters are not valid: 'reports.'.".to_owned(),
        ),
        ("Properties", json!({ "A": 1, "B": [1] }), bad_property("B")),
        ("Properties", json!({ "C": {} }), bad_property("C")),
        ("Headers", json!({ "a b": "1" }), "The header name 'a b' is not valid.".to_owned()),
        (
            "Headers",
            json!({ "X-A\r\nHost": "1" }),
            "The header name 'X-A\r\nHost' is not valid.".to_owned(),
        ),
        (
            "Headers",
            json!({ "X-A": "1\r\nHost: elsewhere" }),
            "The value of the header 'X-A' is not valid: it holds control characters.".to_owned(),
        ),
        (
            "Description",
            json!("a\0b"),
            "The description is not valid: it holds the character U+0000.".to_owned(),
        ),
    ];
    for uri in ["", "ftp://example.org/", "/hook", "example.org/hook", "http://", "mailto:a@b"] {
        cases.push(("WebHookUri", json!(uri), bad_uri(uri)));
    }
    for name in [
        "ms-signature",
        "Webhook-Id",
        "webhook-anything",
        "Content-Type",
        "HOST",
        "Connection",
        "Transfer-Encoding",
        "Expect",
        "TE",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Authorization",
        "Trailer",
    ] {
        cases.push(("Headers", json!({ name: "x" }), bad_header(name)));
    }
    cases
}

#[tokio::test]
async fn invalid_webhook_is_refused_with_the_report_servers_messages() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let id = anna.registered().await;
    for (member, value, reason) in cases() {
        let mut wanted = json!({ "WebHookUri": QUIET });
        wanted[member] = value;
        anna.post(&wanted).await.is(400, Some(&failure(&reason)));
        anna.put(&id, &wanted).await.is(400, Some(&failure(&reason)));
    }
    assert_eq!(anna.ids("").await, [id]);
    let lines = api.process.lines().concat();
    assert!(!lines.contains("xxxxxxxx"), "the log has a secret");
}

#[tokio::test]
async fn unusual_values_within_the_limits_are_accepted_unchanged() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let long = "x".repeat(128);
    let smiles = "\u{1F600}".repeat(64);
    for secret in [long.as_str(), &smiles, "a\tb \u{0} \u{1F600} \"quotes\" \\ and 'more' of it"] {
        let wanted = json!({
            "WebHookUri": QUIET, "Secret": secret, "Description": "line 1\nline 2 \u{1F600}",
            "Properties": { "": "\u{0}", "n": 1.5, "big": 12_345_678_901_234_567_890_u64 },
            "Headers": { "X-A": "ä" }
        });
        let answer = anna.post(&wanted).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let webhook = answer.json();
        for member in ["Secret", "Description", "Properties", "Headers"] {
            assert_eq!(webhook[member], wanted[member]);
        }
        let read = anna.get(&super::of(super::id(&webhook))).await;
        assert_eq!(read.json(), webhook);
    }
}

#[tokio::test]
async fn unreadable_body_is_refused_with_the_name_of_its_member() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let id = anna.registered().await;
    let uri = format!(r#""WebHookUri":"{QUIET}""#);
    for (body, members) in [
        (String::new(), vec!["webHook"]),
        ("not JSON".to_owned(), vec!["webHook"]),
        ("null".to_owned(), vec!["webHook"]),
        ("[]".to_owned(), vec!["webHook"]),
        (format!("{{{uri}"), vec!["webHook"]),
        (format!("{{{uri},\"Secret\":\"\\ud83d\"}}"), vec!["webHook.Secret"]),
        ("[".repeat(100_000), vec!["webHook"]),
        ("{}".to_owned(), vec!["webHook.WebHookUri"]),
        (r#"{"WebHookUri":null}"#.to_owned(), vec!["webHook.WebHookUri"]),
        (r#"{"WebHookUri":[],"IsPaused":"yes"}"#.to_owned(), {
            vec!["webHook.WebHookUri", "webHook.IsPaused"]
        }),
        (format!(r#"{{{uri},"Filters":"reports"}}"#), vec!["webHook.Filters"]),
        (format!(r#"{{{uri},"Filters":["reports",null]}}"#), vec!["webHook.Filters[1]"]),
        (format!(r#"{{{uri},"Headers":{{"A":null}}}}"#), vec!["webHook.Headers.A"]),
        (format!(r#"{{{uri},"IsPaused":""}}"#), vec!["webHook.IsPaused"]),
        (format!(r#"{{{uri},"Properties":[]}}"#), vec!["webHook.Properties"]),
    ] {
        for (method, path) in [("POST", REGISTRATIONS.to_owned()), ("PUT", super::of(&id))] {
            let answer = anna.send(method, &path, body.as_bytes()).await;
            assert_eq!(answer.status, 400, "{answer:?}");
            let refused = answer.json();
            assert_eq!(refused["Message"], "The request is invalid.");
            let state = refused["ModelState"].as_object().unwrap();
            assert_eq!(state.keys().collect::<Vec<_>>(), members, "{body}");
            assert!(state.values().all(|texts| texts[0].is_string()), "{refused}");
            assert!(answer.body.starts_with(r#"{"Message":"#));
        }
    }
}

#[tokio::test]
async fn last_of_members_that_differ_in_case_counts() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let body = format!(
        r#"{{"WebHookUri":"ftp://x","Description":"a","description":"b","webhookuri":"{QUIET}"}}"#
    );
    let answer = anna.send("POST", REGISTRATIONS, body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["Description"], "b");
    // Some clients begin with a byte order mark.
    let answer = anna.send("POST", REGISTRATIONS, format!("\u{feff}{body}").as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn body_over_1_mib_is_refused() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let body = |length: usize| {
        let webhook = json!({ "WebHookUri": QUIET }).to_string();
        format!("{webhook}{}", " ".repeat(length - webhook.len()))
    };
    let largest = 1024 * 1024;
    let answer = anna.send("POST", REGISTRATIONS, body(largest).as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let answer = anna.send("POST", REGISTRATIONS, body(largest + 1).as_bytes()).await;
    let words = "The request is too large: its body has at most 1 MiB.";
    answer.is(413, Some(&json!({ "Message": words })));
    let answer = api.token(&"x".repeat(2 * largest)).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn request_headers_are_limited_in_size_and_number() {
    let api = Api::start().await;
    let headers = [("X-A", "1"); 120];
    let answer = send(api.address, "GET", REGISTRATIONS, &headers, b"").await.unwrap();
    assert_eq!(answer.status, 431, "{answer:?}");
    let long = "x".repeat(1024 * 1024);
    let answer = send(api.address, "GET", REGISTRATIONS, &[("X-A", &long)], b"").await;
    // The connection is closed while the rest is still being sent, which can hide the answer.
    assert!(!matches!(&answer, Ok(answer) if answer.status != 431), "{answer:?}");
}
