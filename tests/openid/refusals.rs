//! Manipulated sign-ins, and users who may not sign in.

use serde_json::json;

use super::browser::Browser;
use super::{CONSOLE, FLOW, OpenId, check_denied};
use crate::api::client::Answer;

const NOT_OURS: &str = "This sign-in was started in another browser";
const REFUSED: &str = "Signing in with Example ID does not work as it is set up";

/// The address with one of its parameters changed.
fn with(address: &str, name: &str, value: &str) -> String {
    let mut url = url::Url::parse(address).unwrap();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(known, old)| {
            let new = if known == name { value.into() } else { old };
            (known.into_owned(), new.into_owned())
        })
        .collect();
    assert!(pairs.iter().any(|(known, _)| known == name), "no {name} in {address}");
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

async fn back(it: &OpenId) -> (Browser, String) {
    let mut browser = it.browser();
    let address = browser.begin("/webhooks/new").await;
    let back = browser.agree(&address, "anna").await;
    (browser, back)
}

#[tokio::test]
async fn sign_in_completes_only_in_the_browser_that_began_it() {
    let it = OpenId::start().await;
    let (mut browser, address) = back(&it).await;
    let begun = browser.cookie(FLOW).unwrap().to_owned();

    // Another browser is sent to this sign-in's callback: without a sign-in of its own …
    let mut victim = it.browser();
    let answer = victim.get(&address).await;
    check_denied(&victim, &answer, 400, NOT_OURS);
    // … and with one, even with its own state in the address.
    let own = victim.begin("").await;
    let state = url::Url::parse(&own).unwrap();
    let state = state.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let answer = victim.get(&with(&address, "state", &state)).await;
    check_denied(&victim, &answer, 400, NOT_OURS);

    for state in ["", "x"] {
        let answer = browser.get(&with(&address, "state", state)).await;
        check_denied(&browser, &answer, 400, NOT_OURS);
        assert_eq!(browser.cookie(FLOW), None);
        browser.put_cookie(FLOW, &begun);
    }
    let answer = browser.get(&address).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/webhooks/new")));
}

#[tokio::test]
async fn authorization_code_is_accepted_once() {
    let it = OpenId::start().await;
    let (mut browser, address) = back(&it).await;
    let begun = browser.cookie(FLOW).unwrap().to_owned();
    let answer = browser.get(&address).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/webhooks/new")));
    let mut again = it.browser();
    again.put_cookie(FLOW, &begun);
    let answer = again.get(&address).await;
    check_denied(&again, &answer, 400, NOT_OURS);
    assert!(answer.body.contains("value=\"/webhooks/new\""), "{}", answer.body);
}

#[tokio::test]
async fn callback_of_another_provider_or_without_a_code_is_refused() {
    let it = OpenId::start().await;
    let (mut browser, address) = back(&it).await;
    let begun = browser.cookie(FLOW).unwrap().to_owned();
    let state = address.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let issuer = it.provider.issuer();
    let callback = format!("{CONSOLE}/sign-in/callback?state={state}");
    for (address, status, text) in [
        (with(&address, "iss", "https://evil.example"), 400, NOT_OURS),
        (callback.clone(), 400, NOT_OURS),
        (format!("{callback}&iss={issuer}"), 400, NOT_OURS),
        (format!("{callback}&iss={issuer}&error=access_denied"), 403, "You were not signed in"),
        (
            format!("{callback}&iss={issuer}&error=server_error"),
            503,
            "does not answer, so signing in with it does not work now",
        ),
        (format!("{callback}&iss={issuer}&error=%3Cb%3E"), 403, REFUSED),
    ] {
        browser.put_cookie(FLOW, &begun);
        let answer = browser.get(&address).await;
        check_denied(&browser, &answer, status, text);
        assert!(!answer.body.contains("<b>"), "{}", answer.body);
    }
}

#[tokio::test]
async fn sign_in_with_another_nonce_is_refused() {
    let it = OpenId::start().await;
    let mut browser = it.browser();
    let address = browser.begin("").await;
    let back = browser.agree(&with(&address, "nonce", "x"), "anna").await;
    let answer = browser.get(&back).await;
    check_denied(&browser, &answer, 403, REFUSED);
}

#[tokio::test]
async fn id_token_with_any_wrong_claim_is_refused() {
    let it = OpenId::start().await;
    for how in [
        json!({ "signer": "none" }),
        json!({ "signer": "public" }),
        json!({ "signer": "other" }),
        json!({ "header": { "kid": "unknown" } }),
        json!({ "header": { "crit": ["x-new"], "x-new": 1 } }),
        json!({ "header": { "typ": "at+jwt" } }),
        json!({ "claims": { "exp": 1_700_000_000 } }),
        json!({ "claims": { "exp": null } }),
        json!({ "claims": { "nbf": 4_000_000_000_u64 } }),
        json!({ "claims": { "iat": 4_000_000_000_u64 } }),
        json!({ "claims": { "iss": "https://evil.example" } }),
        json!({ "claims": { "iss": [it.provider.issuer()] } }),
        json!({ "claims": { "aud": "public" } }),
        json!({ "claims": { "aud": ["console", "public"] } }),
        json!({ "claims": { "azp": "public" } }),
        json!({ "claims": { "nonce": "x" } }),
        json!({ "claims": { "sub": "somebody else" } }),
    ] {
        it.provider.forge(&how).await;
        let mut browser = it.browser();
        let answer = browser.sign_in("anna", "").await;
        assert_eq!(answer.status, 403, "{how}: {answer:?}");
        check_denied(&browser, &answer, 403, REFUSED);
    }
    // The log has the expected and the found value, and nothing else of a token.
    let log = it.process.lines().join("\n");
    let expected = format!("expected.iss=\"{}\"", it.provider.issuer());
    for text in [
        expected.as_str(),
        "found.iss=https://evil.example",
        "expected.aud=\"console\"",
        "found.aud=public",
        "found.aud=[console, public]",
        "expected.alg=[RS256,",
        "found.alg=HS256",
        "found.alg=none",
    ] {
        assert!(log.contains(text), "{text} is not in {log}");
    }
    assert!(!log.contains("eyJ"), "a token is in the log");
    // A valid but unusual token is accepted.
    let how = json!({ "claims": { "aud": ["console", "public"], "azp": "console" } });
    it.provider.forge(&how).await;
    it.signed_in("anna").await;
}

/// The page that refuses the sign-in of this user.
async fn refused(it: &OpenId, name: &str) -> Answer {
    let mut browser = it.browser();
    let answer = browser.sign_in(name, "").await;
    check_denied(&browser, &answer, 403, name);
    answer
}

#[tokio::test]
async fn refused_user_sees_the_reason() {
    let it = OpenId::start().await;
    let stranger = refused(&it, "stranger").await.body;
    assert!(stranger.contains("the report server has no user of that name"), "{stranger}");
    // Without this prompt the provider would sign in the same user again.
    assert!(stranger.contains("force_login=yes"), "{stranger}");
    // The name has another letter s than that of the disabled user.
    let other = refused(&it, "di\u{17f}abled").await.body;
    assert!(other.contains("the report server has no user of that name"), "{other}");
    let disabled = refused(&it, "disabled").await.body;
    assert!(disabled.contains("is disabled at the report server"), "{disabled}");
    let hostile = it.browser().sign_in("<b>", "").await;
    assert!(hostile.body.contains("&#60;b&#62;") && !hostile.body.contains("<b>"), "{hostile:?}");
    assert_eq!(it.world.sql("select count(*) from sessions"), "0");
}

#[tokio::test]
async fn unverified_email_identifies_no_user() {
    let it = OpenId::with(&[("FANFARE_OIDC_USER_CLAIM", "email")]).await;
    let mut browser = it.browser();
    let answer = browser.sign_in("unverified-anna", "").await;
    check_denied(&browser, &answer, 403, "has not verified your e-mail address");
    let mut browser = it.browser();
    let answer = browser.sign_in("anna", "").await;
    check_denied(&browser, &answer, 403, "anna@example.org");

    // The ID token has the address without `email_verified`; only user-info has that claim.
    let email = json!({ "claims": { "email": "anna@example.org" } });
    it.provider.forge(&email).await;
    let mut browser = it.browser();
    let answer = browser.sign_in("unverified-anna", "").await;
    check_denied(&browser, &answer, 403, "has not verified your e-mail address");
    it.provider.set_fault(&json!({ "userInfo": "unreachable" })).await;
    let mut browser = it.browser();
    let answer = browser.sign_in("unverified-anna", "").await;
    check_denied(&browser, &answer, 503, "Example ID");
}
