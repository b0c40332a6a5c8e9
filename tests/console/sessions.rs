//! Sign-in, sign-out, and the headers of every page.

use fanfare_testkit::wait::eventually;

use super::browser::FORM;
use super::{Console, PASSWORD, QUIET};
use crate::world::{SOON, World};

#[tokio::test]
async fn user_signs_in_continues_to_the_page_and_signs_out() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    let mut browser = console.browser();
    let answer = browser.get("/").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/webhooks")));
    let answer = browser.get("/webhooks/new?a=b").await;
    let form = answer.header("location").unwrap().to_owned();
    assert_eq!((answer.status, form.as_str()), (303, "/sign-in?next=%2Fwebhooks%2Fnew%3Fa%3Db"));
    assert!(browser.page(&form).await.contains(r#"name="next" value="/webhooks/new?a=b""#));

    let answer = browser.sign_in("<i>anna", "wrong").await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("The user name or password is incorrect."));
    assert!(answer.body.contains(r#"value="&#60;i&#62;anna""#), "{}", answer.body);
    assert_eq!(browser.cookie, None);

    let fields = [("name", "Anna"), ("password", PASSWORD), ("next", "/webhooks/new?a=b")];
    let answer = browser.post("/sign-in", &fields).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/webhooks/new?a=b")));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{cookie}");
    let stored = console.world.sql("select encode(token_digest, 'escape') from sessions");
    let token = browser.cookie.clone().unwrap();
    assert!(!stored.contains(token.split('=').nth(1).unwrap()), "{stored}");
    assert!(browser.page("/webhooks").await.contains("Signed in as <strong>anna</strong>"));

    let answer = browser.submit("/webhooks", "/sign-out", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/sign-in")));
    assert_eq!(
        (&browser.cookie, console.world.sql("select count(*) from sessions")),
        (&None, "0".to_owned())
    );
    browser.cookie = Some(token);
    assert_eq!(browser.get("/webhooks").await.status, 303);
}

#[tokio::test]
async fn sign_in_never_redirects_to_another_site() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    for trap in ["https://evil.example/", "//evil.example/", "/webhooks\\..\\evil", "/token"] {
        let fields = [("name", "anna"), ("password", PASSWORD), ("next", trap)];
        let answer = console.browser().post("/sign-in", &fields).await;
        assert_eq!(answer.header("location"), Some("/webhooks"), "{trap}");
    }
}

#[tokio::test]
async fn cookie_is_secure_behind_tls() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    let headers = [FORM, ("X-Forwarded-Proto", "https")];
    let mut browser = console.browser();
    let form = format!("name=anna&password={PASSWORD}");
    let answer = browser.send("POST", "/sign-in", &headers, &form).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-fanfare_session="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let https = [("X-Forwarded-Proto", "https")];
    assert_eq!(browser.send("GET", "/webhooks", &https, "").await.status, 200);
    assert_eq!(browser.send("GET", "/webhooks", &[], "").await.status, 303);
}

#[tokio::test]
async fn sign_in_is_refused_after_ten_wrong_passwords() {
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    let mut browser = console.browser();
    for _ in 0..10 {
        assert_eq!(browser.sign_in("anna", "wrong").await.status, 401);
    }
    let answer = browser.sign_in("anna", PASSWORD).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.body.contains("Too many attempts. Try again in "));
}

#[tokio::test]
async fn every_page_allows_only_its_own_scripts_and_styles() {
    let console = Console::start().await;
    let mut browser = console.user("anna").await;
    let path = browser.create(&[("url", QUIET), ("filter", "*")]).await;
    let mut paths: Vec<String> = ["/sign-in", "/webhooks", "/webhooks/new"].map(Into::into).into();
    for more in ["", "/edit", "/delete", "/signature"] {
        paths.push(format!("{path}{more}"));
    }
    let nothing = "/webhooks/00000000000000000000000000000000";
    paths.push(nothing.to_owned());
    for path in &paths {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, if path == nothing { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        for part in ["form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        // The content security policy forbids these.
        for inline in [" style=", "<style", "<script>", " onclick=", " hx-on", "js:"] {
            assert!(!answer.body.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn static_files_are_cached_under_names_with_a_digest() {
    let console = Console::start().await;
    let mut browser = console.browser();
    let html = browser.page("/sign-in").await;
    let mut names = html.split('"').filter(|text| text.starts_with("/assets/"));
    let names: Vec<&str> = names.by_ref().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let answer = browser.get(name).await;
        assert_eq!(answer.status, 200, "{name}");
        let kept = Some("public, max-age=31536000, immutable");
        assert_eq!(answer.header("cache-control"), kept, "{name}");
    }
    assert_eq!(browser.get("/assets/style-0000000000000000.css").await.status, 404);
}

#[tokio::test]
async fn pages_say_that_the_database_is_unavailable() {
    let (world, mut proxy) = World::new().await.with_database_proxy();
    let console = Console::on(world).await;
    let mut anna = console.user("anna").await;
    proxy.cut().await;
    let answer = anna.get("/webhooks").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(answer.body.contains("<h1>The service is not available for now</h1>"));
    let answer = console.browser().sign_in("anna", PASSWORD).await;
    assert_eq!(answer.status, 503);
    proxy.resume();
    eventually("pages are answered again", SOON, async || {
        anna.get("/webhooks").await.status == 200
    })
    .await;
}
