//! A provider whose user-info endpoint fails, and one that gives no access token for it.

use serde_json::{Value, json};

use super::provider::Provider;
use super::{CONSOLE, OpenId, check_denied};
use crate::world::World;

/// Whether somebody who signs in now comes in, and as an administrator.
async fn comes_in(it: &OpenId, name: &str) -> bool {
    let mut browser = it.signed_in(name).await;
    let page = browser.get(&format!("{CONSOLE}/webhooks")).await;
    assert_eq!(page.status, 200, "{page:?}");
    page.body.contains(">Administrator<")
}

#[tokio::test]
async fn who_is_named_by_the_id_token_comes_in_whatever_user_info_does() {
    let it = OpenId::start().await;
    let named = json!({ "claims": { "preferred_username": "chief" } });
    it.provider.forge(&named).await;
    // Asked for what is missing, it says who is an administrator.
    assert!(comes_in(&it, "chief").await);
    for how in ["refused", "jwt", "unreachable", "silent", "huge", "broken", "other"] {
        it.provider.meddle(&json!({ "userInfo": how })).await;
        assert!(!comes_in(&it, "chief").await, "{how}");
    }
    let log = it.process.lines().join("\n");
    assert!(log.contains("the provider's user-info endpoint failed"), "{log}");

    // It is not asked when nothing is missing.
    let whole =
        json!({ "claims": { "preferred_username": "chief", "groups": ["fanfare-admins"] } });
    it.provider.forge(&whole).await;
    assert!(comes_in(&it, "chief").await);
}

#[tokio::test]
async fn who_is_named_by_user_info_alone_does_not_come_in_without_it() {
    let it = OpenId::start().await;
    for (how, status) in [("refused", 403), ("other", 403), ("jwt", 403), ("unreachable", 503)] {
        it.provider.meddle(&json!({ "userInfo": how })).await;
        let mut browser = it.browser();
        let answer = browser.sign_in("anna", "").await;
        check_denied(&browser, &answer, status, "Example ID");
    }
    it.provider.meddle(&Value::Null).await;
    assert!(!comes_in(&it, "anna").await);
}

#[tokio::test]
async fn an_answer_without_an_access_token_signs_in() {
    let provider = Provider::start(false).await;
    let it = OpenId::on(World::new().await, provider, &[]).await;
    for without in
        [json!(["access_token"]), json!(["access_token", "token_type"]), json!(["token_type"])]
    {
        it.provider.meddle(&json!({ "without": without })).await;
        assert!(comes_in(&it, "chief").await, "{without}");
    }
}
