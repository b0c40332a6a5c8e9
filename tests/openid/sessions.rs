//! Sessions after a sign-in, and how they end.

use super::browser::between;
use super::{AUDIENCE, CONSOLE, FLOW, OpenId, Provider, SESSION, check_denied};
use crate::console::PASSWORD;
use crate::world::SOON;
use fanfare_testkit::wait::eventually;

const WEBHOOKS: &str = "http://localhost:8080/webhooks";

#[tokio::test]
async fn sign_out_ends_the_session_here_and_at_the_provider() {
    let it = OpenId::start().await;
    let mut browser = it.signed_in("anna").await;
    // A user who is signed in at the provider does not need to sign in there again …
    let address = browser.begin("").await;
    let (at, _) = browser.visit(&address).await;
    assert_eq!(at, WEBHOOKS);

    let shown = browser.get(WEBHOOKS).await.body;
    let token = between(&shown, "name=\"token\" value=\"", "\"").to_owned();
    let session = browser.cookie(SESSION).unwrap().to_owned();
    let answer = browser.post(&format!("{CONSOLE}/sign-out"), &[("token", &token)]).await;
    assert_eq!((answer.status, browser.cookie(SESSION)), (200, None), "{answer:?}");
    let address = answer.header("refresh").unwrap().strip_prefix("0; url=").unwrap();
    assert!(address.starts_with(&it.provider.issuer()), "{address}");
    assert!(answer.body.contains(&address.replace('&', "&#38;")), "{}", answer.body);
    let mut thief = it.browser();
    thief.put_cookie(SESSION, &session);
    assert_eq!(thief.get(WEBHOOKS).await.status, 303);

    let (_, asks) = browser.visit(address).await;
    let confirm = between(&asks.body, "action=\"", "\"").to_owned();
    let secret = between(&asks.body, "name=\"xsrf\" value=\"", "\"").to_owned();
    let answer = browser.post(&confirm, &[("xsrf", &secret), ("logout", "yes")]).await;
    assert_eq!(answer.header("location"), Some("http://localhost:8080/sign-in"), "{answer:?}");
    // … until the sign-out.
    let address = browser.begin("").await;
    let (_, asks) = browser.visit(&address).await;
    assert!(asks.body.contains("name=\"login\""), "{}", asks.body);
}

#[tokio::test]
async fn disabled_user_is_signed_out_at_once() {
    let it = OpenId::start().await;
    let mut browser = it.signed_in("anna").await;
    assert_eq!(browser.get(WEBHOOKS).await.status, 200);
    it.directory(false).await;
    assert_eq!(browser.get(WEBHOOKS).await.status, 303);
    it.directory(true).await;
    assert_eq!(browser.get(WEBHOOKS).await.status, 200);
    it.world.sql("update sessions set expires_at = now()");
    assert_eq!(browser.get(WEBHOOKS).await.status, 303);
}

#[tokio::test]
async fn session_of_another_provider_is_not_valid() {
    let it = OpenId::start().await;
    let mut browser = it.signed_in("anna").await;
    it.world.sql("update sessions set issuer = 'https://id.example.org'");
    assert_eq!(browser.get(WEBHOOKS).await.status, 303);
}

#[tokio::test]
async fn pages_require_a_session() {
    let it = OpenId::start().await;
    let id = it.world.webhook_of("anna", "http://192.0.2.1/?noecho", &[]).await;
    let token = it.provider.access_token("chief", AUDIENCE).await;
    let mut beginner = it.browser();
    beginner.begin("").await;
    let begun = beginner.cookie(FLOW).unwrap().to_owned();
    let webhook = format!("{WEBHOOKS}/{id}");
    let gets =
        ["", "/edit", "/delete", "/signature", "/deliveries"].map(|it| format!("{webhook}{it}"));
    let new = [WEBHOOKS.to_owned(), format!("{WEBHOOKS}/new")];
    let posts = ["/edit", "/pause", "/resume", "/delete", "/test", "/secret", "/secret/rotate"]
        .map(|it| format!("{webhook}{it}"));
    for session in [None, Some(token), Some(begun), Some("x".to_owned())] {
        let mut browser = it.browser();
        if let Some(session) = session {
            browser.put_cookie(SESSION, &session);
        }
        for page in gets.iter().chain(&new) {
            let answer = browser.get(page).await;
            let to = answer.header("location").unwrap_or_default();
            assert!(answer.status == 303 && to.starts_with("/sign-in"), "{page}: {answer:?}");
        }
        for page in posts.iter().chain(&new[..1]) {
            let answer = browser.post(page, &[("token", "x")]).await;
            let to = answer.header("location").unwrap_or_default();
            assert!(answer.status == 303 && to.starts_with("/sign-in"), "{page}: {answer:?}");
        }
    }
    assert_eq!(it.world.json(&["webhooks", "list"]).await[0]["IsPaused"], false);
}

#[tokio::test]
async fn accounts_and_sessions_work_while_the_provider_is_unreachable() {
    let it = OpenId::start().await;
    it.world.fanfare_with(&["users", "add", "chief", "--password-stdin"], Some(PASSWORD)).await;
    let mut anna = it.signed_in("anna").await;
    let OpenId { process: _process, world, address, provider } = it;
    let port = provider.stop();

    assert_eq!(anna.get(WEBHOOKS).await.status, 200);
    let mut bob = super::Browser::new(address);
    let fields = [("name", "chief"), ("password", PASSWORD)];
    assert_eq!(bob.post(&format!("{CONSOLE}/sign-in"), &fields).await.status, 303);
    assert_eq!(bob.get(WEBHOOKS).await.status, 200);

    // A console that has never reached the provider says so, and works without it.
    let (_process, address) = super::console(&world).await;
    let mut browser = super::Browser::new(address);
    let answer = browser.get(&format!("{CONSOLE}/sign-in/provider?next=/webhooks/new")).await;
    check_denied(
        &browser,
        &answer,
        503,
        "Example ID does not answer, so signing in with it does not work now",
    );
    assert!(answer.body.contains("value=\"/webhooks/new\""), "{}", answer.body);
    assert_eq!(browser.post(&format!("{CONSOLE}/sign-in"), &fields).await.status, 303);

    let _provider = Provider::on(port, true).await;
    eventually("the console finds the provider again", SOON, async || {
        let answer = browser.get(&format!("{CONSOLE}/sign-in/provider")).await;
        if answer.status == 303 { Ok(()) } else { Err(answer) }
    })
    .await;
}
