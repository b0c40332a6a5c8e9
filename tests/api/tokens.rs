//! `/Token`, and the routes that require its tokens.

use serde_json::{Value, json};

use super::client::{Answer, send};
use super::{Api, REGISTRATIONS, of};
use crate::world::unique;

/// Every route but `/Token`.
fn routes() -> Vec<(&'static str, String)> {
    let one = || of(&unique());
    let all = || REGISTRATIONS.to_owned();
    vec![
        ("GET", "/api/webhooks/filters".to_owned()),
        ("GET", all()),
        ("POST", all()),
        ("DELETE", all()),
        ("GET", one()),
        ("PUT", one()),
        ("DELETE", one()),
    ]
}

/// The challenge for an unknown token (RFC 6750, section 3.1).
const UNKNOWN: &str = "Bearer error=\"invalid_token\", \
                       error_description=\"the token is unknown or its session has ended\"";

#[track_caller]
fn check_denied(answer: &Answer, challenge: &str) {
    let denied = json!({ "Message": "Authorization has been denied for this request." });
    answer.is(401, Some(&denied));
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
}

#[tokio::test]
async fn every_route_requires_sign_in() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    for (method, path) in routes() {
        check_denied(&api.ask(method, &path).await, "Bearer");
        for (value, challenge) in [
            ("Bearer", "Bearer"),
            ("Bearer x", UNKNOWN),
            ("Bearer a.b.c", UNKNOWN),
            ("Basic YW5uYTphbm5h", "Bearer"),
            (&anna.token, "Bearer"),
        ] {
            let headers = [("Authorization", value)];
            let answer = send(api.address, method, &path, &headers, b"").await.unwrap();
            check_denied(&answer, challenge);
        }
    }
    api.world.sql("update sessions set expires_at = now()");
    check_denied(&anna.get(REGISTRATIONS).await, UNKNOWN);
    assert_eq!(api.sign_in("anna").await.ids("").await, [""; 0]);
}

#[tokio::test]
async fn password_is_exchanged_for_a_token_that_is_stored_as_a_digest() {
    let api = Api::start().await;
    api.add("anna", &[]).await;
    let answer = api.token("grant_type=password&username=ANNA&password=anna-of-the-tests").await;
    let granted: Value = answer.json();
    let token = granted["access_token"].as_str().unwrap();
    let expected = json!({ "access_token": token, "token_type": "bearer", "expires_in": 86400 });
    answer.is(200, Some(&expected));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let stored = api.world.sql("select * from sessions");
    assert!(stored.contains("anna") && !stored.contains(token), "{stored}");

    // A new password ends the sessions of the old one.
    let anna = api.sign_in("anna").await;
    assert_eq!(anna.get(REGISTRATIONS).await.status, 200);
    let change = ["users", "add", "anna", "--password-stdin"];
    api.world.fanfare_with(&change, Some("another password")).await;
    check_denied(&anna.get(REGISTRATIONS).await, UNKNOWN);
    let lines = api.process.lines().concat();
    assert!(lines.contains(REGISTRATIONS) && !lines.contains(token), "{lines}");
}

#[tokio::test]
async fn refused_sign_in_returns_an_oauth_error() {
    let api = Api::start().await;
    api.add("anna", &[]).await;
    let incorrect = "The user name or password is incorrect.";
    for (form, error, description) in [
        ("", "invalid_request", "has no grant_type"),
        ("{\"grant_type\":\"password\"}", "invalid_request", "has no grant_type"),
        ("grant_type=password&password=anna", "invalid_request", "has no username"),
        ("grant_type=password&username=anna", "invalid_request", "has no password"),
        (
            "grant_type=password&username=anna&password=anna-of-the-tests&password=anna-of-the-tests",
            "invalid_request",
            "password more than once",
        ),
        ("grant_type=client_credentials", "unsupported_grant_type", "'password'"),
        (
            "grant_type=password&username=anna&password=Anna-of-the-tests",
            "invalid_grant",
            incorrect,
        ),
        (
            "grant_type=password&username=nobody&password=anna-of-the-tests",
            "invalid_grant",
            incorrect,
        ),
        ("grant_type=password&username=%00&password=anna", "invalid_grant", incorrect),
    ] {
        let answer = api.token(form).await;
        assert_eq!(answer.status, 400, "{form}: {answer:?}");
        let body = answer.json();
        assert_eq!(body["error"], error, "{form}");
        assert!(body["error_description"].as_str().unwrap().contains(description), "{body}");
    }
    assert_eq!(api.ask("GET", "/Token").await.status, 405);
}

#[tokio::test]
async fn repeated_wrong_passwords_are_refused() {
    let api = Api::start().await;
    api.add("anna", &[]).await;
    api.add("bob", &[]).await;
    let wrong = "grant_type=password&username=anna&password=wrong";
    for n in 0..10 {
        assert_eq!(api.token(wrong).await.json()["error"], "invalid_grant", "{n}");
        // Correct passwords don't count.
        api.sign_in("bob").await;
    }
    // From here on the correct password is refused without a check.
    for form in [wrong, "grant_type=password&username=Anna&password=anna-of-the-tests"] {
        let answer = api.token(form).await;
        assert_eq!((answer.status, &answer.json()["error"]), (429, &json!("slow_down")));
        let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
    }
    api.sign_in("bob").await;
}

/// Asks for a token from another address of this machine.
async fn token_from(source: [u8; 4], api: &Api, form: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((std::net::IpAddr::from(source), 0).into()).unwrap();
    let mut stream = socket.connect(api.address).await.unwrap();
    let head = format!(
        "POST /Token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        form.len()
    );
    stream.write_all(format!("{head}{form}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn wrong_passwords_from_one_source_do_not_lock_out_others() {
    let api = Api::start().await;
    api.user("anna", &[]).await;
    let elsewhere = [127, 0, 0, 2];
    let wrong = "grant_type=password&username=anna&password=wrong";
    for n in 0..10 {
        assert_eq!(token_from(elsewhere, &api, wrong).await, 400, "{n}");
    }
    let right = "grant_type=password&username=anna&password=anna-of-the-tests";
    assert_eq!(token_from(elsewhere, &api, right).await, 429);
    api.sign_in("anna").await;

    // This holds even during a flood of requests from her own address.
    let tries = (0..64).map(|n| format!("grant_type=password&username=user{n}&password=wrong"));
    let tries: Vec<String> = tries.collect();
    for many in tries.chunks(32) {
        let sent = futures_util::future::join_all(many.iter().map(|form| api.token(form)));
        let (answers, _) = tokio::join!(sent, api.sign_in("anna"));
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert!(statuses.iter().all(|status| [400, 429].contains(status)), "{statuses:?}");
    }
}
