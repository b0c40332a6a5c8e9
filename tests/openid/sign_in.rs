//! Regular sign-ins through the provider's own forms.

use super::browser::{Browser, between};
use super::{CONSOLE, FLOW, OpenId, SESSION, check_denied};
use crate::console::PASSWORD;
use crate::openid::provider::Provider;
use crate::world::World;

async fn page(browser: &mut Browser, path: &str) -> String {
    let answer = browser.get(&format!("{CONSOLE}{path}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn sign_in_maps_to_the_directory_user_and_continues_to_the_requested_page() {
    let it = OpenId::start().await;
    let mut browser = it.browser();
    let (at, answer) = browser.visit(&format!("{CONSOLE}/webhooks?search=a%26b")).await;
    assert!(at.contains("/sign-in?next="), "{at}");
    assert!(answer.body.contains("Sign in with Example ID"), "{}", answer.body);
    let link = between(&answer.body, "class=\"button\" href=\"", "\"").replace("&#38;", "&");

    let answer = browser.get(&format!("{CONSOLE}{link}")).await;
    let address = answer.header("location").unwrap();
    let begun = browser.cookie(FLOW).unwrap().to_owned();
    for text in ["code_challenge_method=S256", "response_type=code", "state=", "nonce="] {
        assert!(address.contains(text), "{address}");
    }
    assert!(!address.contains(begun.split('.').next().unwrap()), "{address}");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=900; HttpOnly; SameSite=Lax"), "{cookie}");

    // The directory spells the name in another case.
    let back = browser.agree(address, "ANNA").await;
    let answer = browser.get(&back).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/webhooks?search=a%26b")));
    assert_eq!(browser.cookie(FLOW), None);
    let shown = page(&mut browser, "/webhooks").await;
    assert!(shown.contains("Signed in as <strong>ANNA</strong>"), "{shown}");
    assert!(!shown.contains("Administrator"), "{shown}");
    let rows = it.world.sql("select user_key, administrator, account_key is null from sessions");
    assert_eq!(rows, "anna|f|t");
}

#[tokio::test]
async fn administrator_rights_come_from_the_provider_or_the_directory() {
    let it = OpenId::start().await;
    let mut chief = it.signed_in("chief").await;
    assert!(page(&mut chief, "/webhooks").await.contains(">Administrator<"));
    // While the directory is empty, only such an administrator can sign in.
    let mut other = it.signed_in("chief-of-elsewhere").await;
    assert!(page(&mut other, "/webhooks").await.contains(">Administrator<"));

    let mut anna = it.signed_in("anna").await;
    assert!(!page(&mut anna, "/webhooks").await.contains(">Administrator<"));
    it.world.webhook("http://192.0.2.1/hook?noecho").await;
    assert!(page(&mut anna, "/webhooks").await.contains(">Administrator<"));
}

#[tokio::test]
async fn public_client_and_id_token_claims_are_sufficient() {
    let provider = Provider::start(false).await;
    let settings = [
        ("FANFARE_OIDC_CLIENT_ID", "public"),
        ("FANFARE_OIDC_CLIENT_SECRET", ""),
        ("FANFARE_LOCAL_ACCOUNTS", "no"),
    ];
    let it = OpenId::on(World::new().await, provider, &settings).await;
    let mut anna = it.signed_in("anna").await;
    assert!(page(&mut anna, "/webhooks").await.contains("<strong>anna</strong>"));

    it.world.fanfare_with(&["users", "add", "anna", "--password-stdin"], Some(PASSWORD)).await;
    let mut browser = it.browser();
    let form = page(&mut browser, "/sign-in").await;
    assert!(form.contains("button primary") && !form.contains("type=\"password\""), "{form}");
    let fields = [("name", "anna"), ("password", PASSWORD)];
    let answer = browser.post(&format!("{CONSOLE}/sign-in"), &fields).await;
    check_denied(&browser, &answer, 403, "There are no accounts here");
    let fields = [("grant_type", "password"), ("username", "anna"), ("password", PASSWORD)];
    let answer = browser.post(&format!("{CONSOLE}/Token"), &fields).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("unsupported_grant_type"), "{answer:?}");
}

#[tokio::test]
async fn repeated_sign_in_begins_a_new_session() {
    let it = OpenId::start().await;
    let mut browser = it.signed_in("anna").await;
    let first = browser.cookie(SESSION).unwrap().to_owned();
    assert_eq!(browser.sign_in("anna", "").await.status, 303);
    assert_ne!(browser.cookie(SESSION), Some(first.as_str()));
    let mut former = it.browser();
    former.put_cookie(SESSION, &first);
    assert_eq!(former.get(&format!("{CONSOLE}/webhooks")).await.status, 303);
}

#[tokio::test]
async fn sign_in_continues_to_the_consoles_pages_only() {
    let it = OpenId::start().await;
    for trap in ["https://evil.example/", "//evil.example", "/webhooks\r\nA: b", "/sign-out"] {
        let answer = it.browser().sign_in("anna", trap).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/webhooks")),
            "{trap:?}"
        );
    }
}
