//! The provider's access tokens at the API.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{AUDIENCE, OpenId};
use crate::console::PASSWORD;

const FILTERS: &str = "/api/webhooks/filters";
const ALL: &str = "/api/webhooks/registrations?user=all";
const DELIVERIES: &str = "/api/v1/deliveries";

fn claims(it: &OpenId, change: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": it.provider.issuer(), "aud": AUDIENCE, "sub": "a", "iat": now, "exp": now + 300,
        "preferred_username": "anna",
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

async fn check_refused(it: &OpenId, token: &str, why: &str) {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
    for path in [FILTERS, DELIVERIES] {
        let answer = it.ask(path, token).await;
        assert_eq!(answer.status, 401, "{why}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
    }
}

#[tokio::test]
async fn access_token_of_the_provider_authenticates_its_user() {
    let it = OpenId::start().await;
    it.world.fanfare_with(&["users", "add", "anna", "--password-stdin"], Some(PASSWORD)).await;
    let id = it.world.webhook_of("chief", "http://192.0.2.1/?noecho", &[]).await;
    let anna = it.provider.access_token("anna", AUDIENCE).await;
    assert_eq!(it.ask(FILTERS, &anna).await.status, 200);
    assert_eq!(it.ask(DELIVERIES, &anna).await.status, 200);
    assert_eq!(it.ask(ALL, &anna).await.status, 403);
    let one = format!("/api/webhooks/registrations/{id}");
    assert_eq!(it.ask(&one, &anna).await.status, 404);

    let chief = it.provider.access_token("chief", AUDIENCE).await;
    let all = it.ask(ALL, &chief).await.json();
    assert_eq!(all[0]["Id"], id.as_str(), "{all}");
    assert_eq!(it.ask(&one, &chief).await.status, 200);

    // Tokens that were issued for a password stay valid.
    let mut browser = it.browser();
    let fields = [("grant_type", "password"), ("username", "anna"), ("password", PASSWORD)];
    let granted = browser.post("http://localhost:8080/Token", &fields).await.json();
    let token = granted["access_token"].as_str().unwrap();
    assert_eq!(it.ask(FILTERS, token).await.status, 200);
    // Pages accept sessions only.
    assert_eq!(it.ask("/webhooks", &chief).await.status, 303);
}

#[tokio::test]
async fn access_token_with_any_wrong_claim_is_refused_with_a_reason() {
    let it = OpenId::start().await;
    let algorithm = "the token is signed with an algorithm that is not allowed";
    let form = "the token is not a JWT signed with a public key algorithm";
    let kind = "the token is of another kind than the one that is asked for here";
    let lacks = "the token lacks a claim that it must have";
    let audience = "the token is for another audience";
    let issuer = "the token is from another issuer";
    let key = "the token is signed with a key that the provider does not have";
    let unknown = "the directory has no user of the name that the token holds";
    for (how, why) in [
        (json!({ "signer": "none" }), form),
        (json!({ "signer": "public" }), algorithm),
        (json!({ "signer": "other" }), "the token's signature is wrong"),
        (json!({ "header": { "kid": "no-such" } }), key),
        (json!({ "header": { "crit": ["x-new"], "x-new": 1 } }), kind),
        (json!({ "header": { "typ": "logout+jwt" } }), kind),
        (json!({ "claims": { "cnf": { "jkt": "x" } } }), kind),
        (json!({ "claims": { "exp": 1_700_000_000 } }), "the token has expired"),
        (json!({ "claims": { "exp": "never" } }), lacks),
        (
            json!({ "claims": { "nbf": 4_000_000_000_u64 } }),
            "the token is not valid yet; the clocks may differ",
        ),
        (json!({ "claims": { "iss": "https://evil.example" } }), issuer),
        (json!({ "claims": { "aud": "console" } }), audience),
        (json!({ "claims": { "aud": ["x", "y"] } }), audience),
        (json!({ "claims": { "aud": null } }), lacks),
        (
            json!({ "claims": { "preferred_username": null } }),
            "the claim that names the user is missing",
        ),
        (json!({ "claims": { "preferred_username": "stranger" } }), unknown),
        (
            json!({ "claims": { "preferred_username": "disabled" } }),
            "the user whom the token names is disabled in the directory",
        ),
    ] {
        let mut how = how;
        how["claims"] = claims(&it, how.get("claims").unwrap_or(&json!({})));
        check_refused(&it, &it.provider.token(&how).await, why).await;
    }
    let good = it.provider.token(&json!({ "claims": claims(&it, &json!({})) })).await;
    assert_eq!(it.ask(FILTERS, &good).await.status, 200);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    check_refused(&it, &format!("{header}.{payload}."), "the token's signature is wrong").await;
    check_refused(&it, &format!("{header}.{signature}"), form).await;
    check_refused(&it, &format!("{good}.x"), form).await;
    check_refused(&it, "no-token", "the token is unknown or its session has ended").await;
    let other = it.provider.access_token("anna", "https://other.example").await;
    check_refused(&it, &other, audience).await;
    let stranger = it.provider.access_token("stranger", AUDIENCE).await;
    check_refused(&it, &stranger, unknown).await;
}

#[tokio::test]
async fn key_set_is_refreshed_and_removed_keys_are_refused() {
    let it = OpenId::start().await;
    let before = it.provider.access_token("anna", AUDIENCE).await;
    assert_eq!(it.ask(FILTERS, &before).await.status, 200);
    it.provider.rotate().await;
    let after = it.provider.access_token("anna", AUDIENCE).await;
    assert_eq!(it.ask(FILTERS, &after).await.status, 200);
    it.signed_in("anna").await;
    let key = "the token is signed with a key that the provider does not have";
    check_refused(&it, &before, key).await;

    // Unknown keys do not cause a request to the provider each time.
    for n in 0..10 {
        let header = json!({ "kid": format!("invented-{n}") });
        let how = json!({ "claims": claims(&it, &json!({})), "header": header });
        check_refused(&it, &it.provider.token(&how).await, key).await;
    }
    it.provider.rotate().await;
    let late = it.provider.access_token("anna", AUDIENCE).await;
    check_refused(&it, &late, key).await;
}

#[tokio::test]
async fn access_tokens_are_refused_when_no_audience_is_configured() {
    let it = OpenId::with(&[("FANFARE_OIDC_AUDIENCE", "")]).await;
    let token = it.provider.access_token("anna", AUDIENCE).await;
    check_refused(&it, &token, "the token is unknown or its session has ended").await;
}

#[tokio::test]
async fn cached_keys_work_while_the_provider_is_unreachable() {
    let it = OpenId::start().await;
    let token = it.provider.access_token("anna", AUDIENCE).await;
    assert_eq!(it.ask(FILTERS, &token).await.status, 200);
    let OpenId { process: _process, world, address, provider } = it;
    provider.stop();
    let ask = async |address| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        crate::api::client::send(address, "GET", FILTERS, &headers, b"").await.unwrap()
    };
    assert_eq!(ask(address).await.status, 200);
    // Another console has never read the provider's keys.
    let (_process, address) = super::console(&world).await;
    let answer = ask(address).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
}
