//! Local accounts and the directory: a user who is disabled or deleted there loses access at once.

use serde_json::json;

use super::{Api, QUIET, REGISTRATIONS, User, password};

/// Imports a directory of these users.
async fn import(api: &Api, users: &serde_json::Value) {
    api.world.directory(&json!({ "users": users, "roles": [] })).await;
}

async fn check_refused(api: &Api, user: &User<'_>, name: &str) {
    for path in [REGISTRATIONS, "/api/v1/deliveries"] {
        assert_eq!(user.get(path).await.status, 401, "{name}: {path}");
    }
    assert_eq!(user.post(&json!({ "WebHookUri": QUIET })).await.status, 401, "{name}");
    let form = format!("grant_type=password&username={name}&password={}", password(name));
    let answer = api.token(&form).await;
    let usual = json!({
        "error": "invalid_grant",
        "error_description": "The user name or password is incorrect.",
    });
    answer.is(400, Some(&usual));
}

async fn check_accepted(api: &Api, user: &User<'_>, name: &str) {
    assert_eq!(user.get(REGISTRATIONS).await.status, 200, "{name}");
    api.sign_in(name).await;
}

#[tokio::test]
async fn accounts_of_disabled_and_deleted_users_are_refused_at_once() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let root = api.user("root", &["--admin"]).await;
    // Before there is a directory, accounts work.
    check_accepted(&api, &anna, "anna").await;

    import(&api, &json!([{ "name": "Anna" }, { "name": "root" }])).await;
    check_accepted(&api, &anna, "anna").await;

    import(
        &api,
        &json!([{ "name": "Anna", "enabled": false }, { "name": "root", "enabled": false }]),
    )
    .await;
    check_refused(&api, &anna, "anna").await;
    check_refused(&api, &root, "root").await;

    import(&api, &json!([{ "name": "Anna" }, { "name": "root" }])).await;
    check_accepted(&api, &anna, "anna").await;

    import(&api, &json!([{ "name": "bob" }])).await;
    check_refused(&api, &anna, "anna").await;
    // This holds for an administrator too, since the directory had named this one.
    check_refused(&api, &root, "root").await;
}

#[tokio::test]
async fn accounts_work_until_the_directory_has_named_and_deleted_their_users() {
    let api = Api::start().await;
    let (carl, root) = (api.user("carl", &[]).await, api.user("root", &["--admin"]).await);
    import(&api, &json!([{ "name": "anna" }])).await;
    check_accepted(&api, &carl, "carl").await;
    check_accepted(&api, &root, "root").await;
    // An account may be added before or after the directory names its user.
    let anna = api.user("anna", &[]).await;
    check_accepted(&api, &anna, "anna").await;
    import(&api, &json!([{ "name": "anna" }, { "name": "carl" }])).await;
    check_accepted(&api, &carl, "carl").await;
    import(&api, &json!([{ "name": "anna" }])).await;
    check_refused(&api, &carl, "carl").await;
    // The directory's history of the user is trimmed, and the user still counts as deleted.
    api.world.sql("delete from directory_versions where name_key = 'carl'");
    check_refused(&api, &carl, "carl").await;
}

#[tokio::test]
async fn sessions_end_when_an_account_is_disabled_removed_or_gets_another_password() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let disabled = api.user("disabled", &[]).await;
    let removed = api.user("removed", &[]).await;
    api.world.fanfare(&["users", "disable", "disabled"]).await;
    check_refused(&api, &disabled, "disabled").await;
    api.world.fanfare(&["users", "enable", "disabled"]).await;
    // The account is added again; its former sessions stay invalid.
    assert_eq!(disabled.get(REGISTRATIONS).await.status, 401);
    api.sign_in("disabled").await;

    api.world.fanfare(&["users", "remove", "removed"]).await;
    check_refused(&api, &removed, "removed").await;
    let change = ["users", "password", "anna", "--password-stdin"];
    api.world.fanfare_with(&change, Some("another password")).await;
    check_refused(&api, &anna, "anna").await;
}

#[tokio::test]
async fn session_begun_during_a_password_change_is_not_valid() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    // A session that was committed after the new password's statement had read the sessions has an
    // older generation than its account.
    api.world.sql("update accounts set generation = generation + 1");
    assert_eq!(anna.get(REGISTRATIONS).await.status, 401);
}

#[tokio::test]
async fn password_of_a_megabyte_is_refused_without_hashing() {
    let api = Api::start().await;
    api.add("anna", &[]).await;
    for _ in 0..20 {
        let form = format!("grant_type=password&username=anna&password={}", "a".repeat(1025));
        // It does not count as a wrong password, either.
        assert_eq!(api.token(&form).await.json()["error"], "invalid_grant");
    }
    api.sign_in("anna").await;
}
