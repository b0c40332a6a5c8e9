//! Requests that another site makes a browser send are refused.

use serde_json::{Value, json};

use super::browser::{Browser, FORM, ORIGIN, encode};
use super::{Console, PASSWORD, QUIET};

const REGISTRATIONS: &str = "/api/webhooks/registrations";

async fn is_there(browser: &mut Browser, path: &str) -> bool {
    browser.get(path).await.status == 200
}

#[tokio::test]
async fn form_of_another_session_or_site_is_refused() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let mut other = console.signed_in("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let delete = format!("{path}/delete");
    let own = anna.token(&path).await;
    let others = other.token(&path).await;
    assert_ne!(own, others);

    for fields in [&[][..], &[("token", "")], &[("token", others.as_str())]] {
        let answer = anna.post(&delete, fields).await;
        assert_eq!(answer.status, 403, "{fields:?}");
        assert!(answer.body.contains("That was not done"));
    }
    let form = encode(&[("token", &own)]);
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "http://reports.example.org.evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = anna.send("POST", &delete, &[FORM, (name, value)], &form).await;
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
    assert!(is_there(&mut anna, &path).await);
    let headers = [FORM, ("Origin", ORIGIN), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(anna.send("POST", &delete, &headers, &form).await.status, 303);
    assert!(!is_there(&mut anna, &path).await);
}

#[tokio::test]
async fn sign_in_from_another_site_is_refused() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    let form = encode(&[("name", "anna"), ("password", PASSWORD)]);
    let mut browser = console.browser();
    let headers = [FORM, ("Origin", "http://evil.example")];
    assert_eq!(browser.send("POST", "/sign-in", &headers, &form).await.status, 403);
    assert_eq!(browser.cookie, None);
}

/// The session cookie authenticates API requests too. Browsers add cookies to requests of other
/// sites, so the API checks their origin as forms do.
#[tokio::test]
async fn api_accepts_the_session_cookie_from_the_consoles_pages_only() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let body = json!({ "WebHookUri": QUIET }).to_string();
    for origin in [None, Some("http://evil.example")] {
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        assert_eq!(anna.send("POST", REGISTRATIONS, &headers, &body).await.status, 401);
        assert_eq!(anna.send("DELETE", REGISTRATIONS, &headers, "").await.status, 401);
    }
    let headers = [("Origin", ORIGIN)];
    assert_eq!(anna.send("POST", REGISTRATIONS, &headers, &body).await.status, 201);
    let list: Value = anna.send("GET", REGISTRATIONS, &[], "").await.json();
    assert_eq!(list[0]["WebHookUri"], QUIET);
}
