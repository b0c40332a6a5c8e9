//! A provider whose user-info endpoint fails, and one that issues no access token for it.

use serde_json::{Value, json};

use super::provider::Provider;
use super::{CONSOLE, OpenId, check_denied};
use crate::world::World;

/// Signs in, which must succeed; returns whether the user is an administrator.
async fn signs_in_as_administrator(it: &OpenId, name: &str) -> bool {
    let mut browser = it.signed_in(name).await;
    let page = browser.get(&format!("{CONSOLE}/webhooks")).await;
    assert_eq!(page.status, 200, "{page:?}");
    page.body.contains(">Administrator<")
}

#[tokio::test]
async fn user_named_by_the_id_token_signs_in_without_user_info() {
    let it = OpenId::start().await;
    let named = json!({ "claims": { "preferred_username": "chief" } });
    it.provider.forge(&named).await;
    // The endpoint is asked for the missing claim, which makes the user an administrator.
    assert!(signs_in_as_administrator(&it, "chief").await);
    for how in ["refused", "jwt", "unreachable", "silent", "huge", "broken", "other"] {
        it.provider.set_fault(&json!({ "userInfo": how })).await;
        assert!(!signs_in_as_administrator(&it, "chief").await, "{how}");
    }
    let log = it.process.lines().join("\n");
    assert!(log.contains("the provider's user-info endpoint failed"), "{log}");

    // The endpoint is not asked when no claim is missing.
    let whole =
        json!({ "claims": { "preferred_username": "chief", "groups": ["fanfare-admins"] } });
    it.provider.forge(&whole).await;
    assert!(signs_in_as_administrator(&it, "chief").await);
}

#[tokio::test]
async fn user_named_by_user_info_alone_is_refused_without_it() {
    let it = OpenId::start().await;
    for (how, status) in [("refused", 403), ("other", 403), ("jwt", 403), ("unreachable", 503)] {
        it.provider.set_fault(&json!({ "userInfo": how })).await;
        let mut browser = it.browser();
        let answer = browser.sign_in("anna", "").await;
        check_denied(&browser, &answer, status, "Example ID");
    }
    it.provider.set_fault(&Value::Null).await;
    assert!(!signs_in_as_administrator(&it, "anna").await);
}

#[tokio::test]
async fn token_response_without_an_access_token_signs_in() {
    let provider = Provider::start(false).await;
    let it = OpenId::on(World::new().await, provider, &[]).await;
    for without in
        [json!(["access_token"]), json!(["access_token", "token_type"]), json!(["token_type"])]
    {
        it.provider.set_fault(&json!({ "without": without })).await;
        assert!(signs_in_as_administrator(&it, "chief").await, "{without}");
    }
}
