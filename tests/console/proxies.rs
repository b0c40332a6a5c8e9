//! Requests that a proxy has changed between the browser and the console.

use serde_json::json;

use super::browser::{FORM, encode};
use super::{Console, PASSWORD, QUIET};
use crate::api::client::send_as;
use crate::world::World;

const REGISTRATIONS: &str = "/api/webhooks/registrations";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// The status of a sign-in, and the cookie that it sets.
async fn sign_in(console: &Console, host: &str, headers: Headers<'_>) -> (u16, String) {
    let form = encode(&[("name", "anna"), ("password", PASSWORD)]);
    let headers: Vec<_> = headers.iter().copied().chain([FORM]).collect();
    let answer = send_as(host, console.address, "POST", "/sign-in", &headers, form.as_bytes())
        .await
        .unwrap();
    (answer.status, answer.header("set-cookie").unwrap_or_default().to_owned())
}

/// The status of a registration that is authenticated by the session cookie.
async fn register(
    console: &Console,
    host: &str,
    cookie: &str,
    headers: Headers<'_>,
) -> (u16, String) {
    let pair = cookie.split(';').next().unwrap();
    let headers: Vec<_> = headers.iter().copied().chain([("Cookie", pair)]).collect();
    let body = json!({ "WebHookUri": QUIET }).to_string();
    let answer = send_as(host, console.address, "POST", REGISTRATIONS, &headers, body.as_bytes());
    let answer = answer.await.unwrap();
    (answer.status, answer.header("location").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn forms_are_accepted_when_a_proxy_changes_the_host() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    for (host, origin, by_form, by_api) in [
        ("host", "https://host", 303, 201),
        ("host:443", "https://host", 303, 201),
        ("host:80", "http://host", 303, 201),
        ("host:8081", "http://host:8081", 303, 201),
        // The proxy drops the port. A form has a token of its session; the API has only the host.
        ("host", "http://host:8081", 303, 401),
        ("host:8080", "http://host:8081", 403, 401),
        ("host", "https://host.evil.example", 403, 401),
        ("host", "null", 403, 401),
    ] {
        let headers = [("Origin", origin)];
        let (status, _) = sign_in(&console, host, &headers).await;
        assert_eq!(status, by_form, "{host} {origin}");
        let (_, cookie) = sign_in(&console, host, &[]).await;
        let (status, _) = register(&console, host, &cookie, &headers).await;
        assert_eq!(status, by_api, "{host} {origin}");
    }
}

#[tokio::test]
async fn forwarded_https_makes_the_cookie_secure_and_the_location_absolute() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    for (headers, is_secure, base) in [
        (&[("X-Forwarded-Proto", "https, http")][..], true, "https://host:1"),
        (&[("X-Forwarded-Proto", "http, https")], false, "http://host:1"),
        (&[("Forwarded", "for=192.0.2.1;proto=https;host=b.example")], true, "https://b.example"),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "b.example:8443, c.example")],
            true,
            "https://b.example:8443",
        ),
        (&[], false, "http://host:1"),
    ] {
        let (status, cookie) = sign_in(&console, "host:1", headers).await;
        assert_eq!(status, 303);
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{headers:?}: {cookie}");
        assert_eq!(cookie.starts_with("__Host-"), is_secure, "{headers:?}: {cookie}");
        let headers: Vec<_> = headers.iter().copied().chain([("Origin", base)]).collect();
        let (status, location) = register(&console, "host:1", &cookie, &headers).await;
        assert_eq!(status, 201, "{headers:?}");
        assert!(location.starts_with(&format!("{base}{REGISTRATIONS}/")), "{location}");
    }
}

#[tokio::test]
async fn configured_address_is_used_for_forms_and_locations() {
    let world = World::new().await.with("FANFARE_CONSOLE_URL", "http://host.example:8081");
    let console = Console::on(world).await;
    console.add(&["anna"], &[]).await;
    for host in ["host.example", "127.0.0.1:8080", "elsewhere"] {
        let headers = [("Origin", "http://host.example:8081")];
        let (status, cookie) = sign_in(&console, host, &headers).await;
        assert_eq!(status, 303, "{host}");
        let (status, location) = register(&console, host, &cookie, &headers).await;
        assert_eq!(status, 201, "{host}");
        assert!(location.starts_with("http://host.example:8081/api/"), "{location}");
        let headers = [("Origin", "http://evil.example:8081")];
        assert_eq!(sign_in(&console, host, &headers).await.0, 403, "{host}");
    }
}
