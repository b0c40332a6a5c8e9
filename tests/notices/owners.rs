//! Notices to owners: each gets those about the own webhooks, by the channels that the owner chose.

use fanfare_core::signature::verify_ms_signature;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::mail_server::MailServer;
use super::{SECRET, listed, world_with};
use crate::api_v1::{Api, User};
use crate::world::{SOON, World};

const SETTINGS: &str = "/api/v1/notices/settings";

/// An installation that checks each second, whose operator allows mail to `example.org`.
async fn installation(operator: &Receiver, mail: &MailServer) -> Api {
    let world = world_with(operator)
        .await
        .with("FANFARE_NOTICES_QUIET", "10m")
        .with("FANFARE_SMTP_URL", &mail.url())
        .with("FANFARE_NOTICES_FROM", "Fanfare <fanfare@example.org>")
        .with("FANFARE_NOTICES_MAIL_DOMAINS", "example.org");
    Api::on(world).await
}

/// Chooses channels; returns them as they are then.
async fn choose(user: &User, wanted: &Value) -> Value {
    let answer = user.put(SETTINGS, wanted).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Registers a webhook that the service has paused.
async fn gone(world: &World, owner: &str) -> String {
    let webhook = world.webhook_of(owner, "http://192.0.2.1/hook?token=s3cret", &[]).await;
    world.sql(&format!(
        "update webhooks set paused = true, paused_reason = 'gone' where id = '{webhook}'"
    ));
    webhook
}

/// Waits until the sending of the notice about this webhook by a channel is in a state.
async fn state(world: &World, webhook: &str, channel: &str, wanted: &str) -> Value {
    eventually(&format!("{channel} is {wanted}"), SOON, async || {
        let listed = world.json(&["notices", "list"]).await;
        let notice = listed.as_array().unwrap().iter().find(|it| it["webhook"] == webhook);
        let sends = notice.and_then(|it| it["channels"].as_array()).cloned().unwrap_or_default();
        let send = sends.into_iter().find(|it| it["channel"] == channel);
        send.filter(|send| send["state"] == wanted).ok_or(listed)
    })
    .await
}

#[tokio::test]
async fn owners_get_notices_about_their_own_webhooks_alone() {
    let (operator, mail) = (Receiver::start().await, MailServer::start().await);
    let api = installation(&operator, &mail).await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let (of_anna, of_bob) = (Receiver::start().await, Receiver::start().await);
    let url = of_anna.url("/notices?noecho");
    let chosen = choose(&anna, &json!({ "url": url, "mail": "anna@example.org" })).await;
    let secret = chosen["secret"].as_str().unwrap().to_owned();
    choose(&bob, &json!({ "url": of_bob.url("/?noecho"), "types": ["webhook.paused"] })).await;
    let _router = api.world.start("router").await;

    let webhook = gone(&api.world, "anna").await;
    let request = of_anna.wait_for(1, SOON).await.remove(0);
    let body = std::str::from_utf8(&request.body).unwrap().to_owned();
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(event["type"], "fanfare.webhook.paused");
    assert_eq!(event["data"]["webhook"], json!(webhook));
    let signature = request.header("ms-signature").unwrap();
    assert!(verify_ms_signature(&secret.parse().unwrap(), &request.body, signature));
    state(&api.world, &webhook, "owner-mail", "sent").await;
    let mails = mail.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].contains("RCPT TO:<anna@example.org>"), "{}", mails[0]);
    assert!(!mails[0].contains("s3cret") && !body.contains("s3cret"), "{body}");

    let other = gone(&api.world, "bob").await;
    let request = of_bob.wait_for(1, SOON).await.remove(0);
    let event: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(event["data"]["webhook"], json!(other));
    state(&api.world, &other, "owner-webhook", "sent").await;
    operator.wait_for(2, SOON).await;
    assert_eq!((of_anna.count(), of_bob.count(), mail.mails().len()), (1, 1, 1));
    let page = anna.read("/api/v1/notices").await;
    let channels = page["items"][0]["channels"].as_array().unwrap();
    let codes: Vec<&Value> = channels.iter().map(|channel| &channel["channel"]).collect();
    assert_eq!(codes, ["owner-mail", "owner-webhook"], "{page}");

    let shown = anna.read(SETTINGS).await;
    let audit = anna.read("/api/v1/audit?action=notice-settings.changed").await;
    assert_eq!(audit["items"][0]["after"]["mail"], "anna@example.org", "{audit}");
    for text in [shown.to_string(), audit.to_string(), api.world.dump()] {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test]
async fn owner_who_is_disabled_or_deleted_gets_no_notice() {
    let (operator, mail) = (Receiver::start().await, MailServer::start().await);
    let api = installation(&operator, &mail).await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let receiver = Receiver::start().await;
    for (user, address) in [(&anna, "anna@example.org"), (&bob, "bob@example.org")] {
        choose(user, &json!({ "url": receiver.url("/?noecho"), "mail": address })).await;
    }
    let disabled = json!({ "name": "anna", "enabled": false });
    api.world.directory(&json!({ "users": [disabled], "roles": [] })).await;
    let (of_anna, of_bob) = (gone(&api.world, "anna").await, gone(&api.world, "bob").await);
    let _router = api.world.start("router").await;
    for channel in ["owner-webhook", "owner-mail"] {
        let send = state(&api.world, &of_anna, channel, "not-sent").await;
        assert_eq!(send["failure"], "owner-disabled");
    }
    // The settings of a user who was deleted are gone, so nothing is to be sent.
    state(&api.world, &of_bob, "webhook", "sent").await;
    assert_eq!(listed(&api.world).await, ["webhook.paused", "webhook.paused"]);
    assert_eq!(api.world.sql("select owner_key from notice_settings"), "anna");
    assert_eq!((receiver.count(), mail.mails().len()), (0, 0));
}

#[tokio::test]
async fn receiver_of_an_owner_that_hangs_delays_neither_operators_nor_other_owners() {
    let (operator, mail) = (Receiver::start().await, MailServer::start().await);
    let api = installation(&operator, &mail).await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let (hanging, receiver) = (Receiver::start().await, Receiver::start().await);
    hanging.answer_with(|_, _| Reply::Hang);
    choose(&anna, &json!({ "url": hanging.url("/?noecho") })).await;
    choose(&bob, &json!({ "url": receiver.url("/?noecho") })).await;
    let of_anna = gone(&api.world, "anna").await;
    let of_bob = gone(&api.world, "bob").await;
    let _router = api.world.start("router").await;
    hanging.wait_for(1, SOON).await;
    for (webhook, channel) in
        [(&of_anna, "webhook"), (&of_bob, "webhook"), (&of_bob, "owner-webhook")]
    {
        state(&api.world, webhook, channel, "sent").await;
    }
    let given_up = "select count(*) from notice_sends where failure is not null";
    assert_eq!(api.world.sql(given_up), "0", "the receiver that hangs was waited for");
    eventually("the failure is noted", SOON, async || {
        let send = state(&api.world, &of_anna, "owner-webhook", "waiting").await;
        if send["failure"].is_string() { Ok(()) } else { Err(send) }
    })
    .await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn addresses_that_may_not_be_used_are_refused() {
    let (operator, mail) = (Receiver::start().await, MailServer::start().await);
    let api = installation(&operator, &mail).await;
    let anna = api.sign_in("anna").await;
    let silent = Receiver::start().await;
    let (not_echoed, private) = (silent.url("/"), "http://10.0.0.1/");
    for (wanted, member) in [
        (json!({ "mail": "anna@example.com" }), "mail"),
        (json!({ "mail": "victim%example.com@example.org" }), "mail"),
        (json!({ "mail": "anna@example.org, bob@example.com" }), "mail"),
        (json!({ "url": private }), "url"),
        (json!({ "url": not_echoed }), "url"),
        (json!({ "url": "ftp://example.org/" }), "url"),
        (json!({ "secret": SECRET }), "url"),
        (json!({ "mail": "anna@example.org", "types": [] }), "types"),
        (json!({ "mail": "anna@example.org", "types": ["dead-letters.arriving"] }), "types"),
    ] {
        let answer = anna.put(SETTINGS, &wanted).await;
        assert_eq!(answer.status, 400, "{wanted}: {answer:?}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["errors"][0]["name"], member, "{wanted}: {problem}");
    }
    let shown = anna.read(SETTINGS).await;
    assert_eq!((&shown["url"], &shown["mail"]), (&Value::Null, &Value::Null), "{shown}");
    assert_eq!(shown["mailDomains"], json!(["example.org"]));
}
