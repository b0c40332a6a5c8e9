//! Notices: one for each cause, by each channel, and one when the cause is resolved.

mod mail_server;
mod owners;

use std::collections::BTreeSet;

use fanfare_core::signature::{verify_ms_signature, verify_webhook_signature};
use fanfare_failpoints::Step;
use fanfare_testkit::amqp::{Amqp, Message};
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::api_v1::Api;
use crate::world::{SOON, World, event};
use mail_server::MailServer;

/// The steps at which routers end here.
pub(crate) const STEPS: [Step; 1] = [Step::NoticesSent];

const SECRET: &str = "fedcba9876543210fedcba9876543210";
const QUEUE: &str = "operators";

/// An installation that checks each second, with the operator's receiver.
async fn world_with(operator: &Receiver) -> World {
    World::new()
        .await
        .with("FANFARE_NOTICES_EVERY", "1s")
        .with("FANFARE_NOTICES_QUIET", "4s")
        .with("FANFARE_NOTICES_URL", &operator.url("/notices"))
        .with("FANFARE_NOTICES_SECRET", SECRET)
}

/// Binds a queue to the exchange of notices, which a router has declared.
async fn bind(amqp: &Amqp) {
    amqp.declare(QUEUE).await.unwrap();
    amqp.bind(QUEUE, "fanfare.notices", "#").await.unwrap();
}

/// Waits until routers have checked the conditions this many times more.
async fn checks(world: &World, times: u32) {
    for _ in 0..times {
        let next = "select next_check_at from notices_state";
        let before = world.sql(next);
        eventually("another check", SOON, async || world.sql(next) != before).await;
    }
}

/// Waits until this type of notice is listed, and sent by each channel.
async fn sent(world: &World, kind: &str) -> Value {
    eventually(&format!("{kind} is sent"), SOON, async || {
        let listed = world.json(&["notices", "list"]).await;
        let is_sent = |it: &Value| {
            let channels = it["channels"].as_array().unwrap();
            channels.iter().all(|channel| channel["state"] == "sent")
        };
        let of_kind = |it: &&Value| it["type"] == kind && is_sent(it);
        listed.as_array().unwrap().iter().find(of_kind).cloned().ok_or(listed)
    })
    .await
}

async fn listed(world: &World) -> Vec<String> {
    let listed = world.json(&["notices", "list"]).await;
    let kind = |notice: &Value| notice["type"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(kind).collect()
}

#[track_caller]
fn check_signed(request: &Request, id: &Value) {
    let secret = SECRET.parse().unwrap();
    let header = |name: &str| request.header(name).unwrap();
    assert_eq!(header("webhook-id"), id);
    assert!(verify_ms_signature(&secret, &request.body, header("ms-signature")));
    assert!(verify_webhook_signature(
        &secret,
        header("webhook-id"),
        header("webhook-timestamp"),
        &request.body,
        header("webhook-signature"),
    ));
}

#[track_caller]
fn check_message(message: &Message, id: &Value, kind: &str) {
    assert_eq!(message.routing_key, kind);
    let event: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(event["type"], format!("fanfare.{kind}"));
    assert_eq!(&event["id"], id);
    let message_id = message.properties.message_id().as_ref().unwrap().as_str();
    assert_eq!(message_id, id);
}

#[tokio::test]
async fn webhook_that_is_gone_has_one_notice_by_each_channel_and_one_when_it_is_resumed() {
    let (operator, receiver) = (Receiver::start().await, Receiver::start().await);
    let mail = MailServer::start().await;
    let world = world_with(&operator)
        .await
        .with("FANFARE_SMTP_URL", &mail.url())
        .with("FANFARE_NOTICES_FROM", "Fanfare <fanfare@example.org>")
        .with("FANFARE_NOTICES_TO", "ops@example.org, night@example.org");
    receiver.answer_with(|_, _| Reply::status(410));
    let webhook = world.webhook(&receiver.url("/hook?token=s3cret")).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    let amqp = world.amqp().await;
    bind(&amqp).await;
    world.publish(&event()).await;
    worker.wait_for_line("paused a webhook whose receiver answered 410", SOON).await;

    let notice = sent(&world, "webhook.paused").await;
    let facts = [&notice["webhook"], &notice["owner"], &notice["facts"]["reason"]];
    assert_eq!(facts, [&json!(webhook), &json!("anna"), &json!("gone")]);
    checks(&world, 4).await;
    assert_eq!(listed(&world).await, ["webhook.paused"]);
    let requests = operator.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    check_signed(&requests[0], &notice["id"]);
    let messages = amqp.drain(QUEUE).await.unwrap();
    assert_eq!(messages.len(), 1);
    check_message(&messages[0], &notice["id"], "webhook.paused");
    let mails = mail.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    for part in ["RCPT TO:<ops@example.org>", "RCPT TO:<night@example.org>", &webhook] {
        assert!(mails[0].contains(part), "{part}: {}", mails[0]);
    }
    let body = std::str::from_utf8(&requests[0].body).unwrap();
    for text in [&mails[0], body, std::str::from_utf8(&messages[0].body).unwrap()] {
        assert!(!text.contains("s3cret"), "{text}");
    }

    world.fanfare(&["webhooks", "resume", &webhook]).await;
    let resolved = sent(&world, "webhook.resolved").await;
    assert_eq!(resolved["cause"], notice["cause"]);
    assert_ne!(resolved["id"], notice["id"]);
}

#[tokio::test]
async fn dead_letters_that_arrive_are_one_notice() {
    let operator = Receiver::start().await;
    let world = world_with(&operator).await.with("FANFARE_NOTICES_QUIET", "10m");
    let webhook = world.webhook("http://192.0.2.1/hook").await;
    let _router = world.start("router").await;
    world.insert_dead(&webhook, 200);
    let notice = sent(&world, "dead-letters.arriving").await;
    assert_eq!(notice["facts"]["count"], 200, "{notice}");
    assert_eq!(notice["facts"]["reasons"], json!({ "exhausted": 200 }));
    world.insert_dead(&webhook, 100);
    checks(&world, 3).await;
    assert_eq!(listed(&world).await, ["dead-letters.arriving"]);
    assert_eq!(operator.count(), 1);
}

/// A router ends when it has sent a notice, before it has noted that.
#[tokio::test]
async fn notice_that_a_router_sent_as_it_died_is_sent_again_with_the_same_id() {
    let operator = Receiver::start().await;
    let world = world_with(&operator).await.with("FANFARE_NOTICES_QUIET", "10m");
    let webhook = world.webhook("http://192.0.2.1/hook").await;
    world.insert_dead(&webhook, 200);
    let amqp = world.amqp().await;
    amqp.declare_exchange("fanfare.notices", &[]).await.unwrap();
    bind(&amqp).await;
    let failpoint = format!("{}=return", Step::NoticesSent.name());
    let mut router = world.spawn_with_envs("router", &[("FAILPOINTS", &failpoint)]);
    router.wait_exit(SOON).await;
    let _routers = (world.start("router").await, world.start("router").await);
    let notice = sent(&world, "dead-letters.arriving").await;
    checks(&world, 2).await;
    assert_eq!(listed(&world).await, ["dead-letters.arriving"]);
    let requests = operator.requests();
    let posted = requests.iter().map(|request| request.header("webhook-id").unwrap().to_owned());
    let messages = amqp.drain(QUEUE).await.unwrap();
    let published = messages.iter().map(|message| {
        let id = message.properties.message_id().as_ref();
        id.unwrap().to_string()
    });
    let ids: BTreeSet<String> = posted.chain(published).collect();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [notice["id"].as_str().unwrap()]);
    assert!((1..=2).contains(&requests.len()), "{requests:?}");
    assert!((1..=2).contains(&messages.len()), "{messages:?}");
    assert!(requests.len() + messages.len() > 2, "nothing was sent twice");
}

#[tokio::test]
async fn mail_server_that_is_away_delays_neither_other_channels_nor_deliveries() {
    let (operator, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = world_with(&operator)
        .await
        .with("FANFARE_NOTICES_QUIET", "10m")
        .with("FANFARE_SMTP_URL", "smtp://ops:p4ssw0rd@127.0.0.1:1")
        .with("FANFARE_NOTICES_FROM", "fanfare@example.org")
        .with("FANFARE_NOTICES_TO", "ops@example.org");
    let webhook = world.webhook(&receiver.url("/hook")).await;
    world.insert_dead(&webhook, 1);
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    operator.wait_for(1, SOON).await;
    eventually("the failure is listed", SOON, async || {
        let notice = world.json(&["notices", "list"]).await[0].clone();
        let channels = notice["channels"].as_array().unwrap();
        let state = |code| {
            let channel = channels.iter().find(|it| it["channel"] == code).unwrap();
            (channel["state"].as_str().unwrap(), channel["failure"].is_string())
        };
        let failed = state("mail") == ("waiting", true) && state("webhook") == ("sent", false);
        if failed { Ok(()) } else { Err(notice) }
    })
    .await;
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    let doctor = world.run(&["doctor", "--json"], None).await;
    assert_eq!(doctor.code(), Some(1), "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let result = |name: &str| {
        let check = checks.as_array().unwrap().iter().find(|it| it["check"] == name).cloned();
        check.unwrap()["ok"].clone()
    };
    assert_eq!(result("notices by webhook"), true);
    assert_eq!(result("notices by mail"), false);
    let listed = world.fanfare(&["notices", "list", "--json"]).await;
    for text in [&doctor.stdout, &doctor.stderr, &listed, &router.lines().join("\n")] {
        assert!(!text.contains("p4ssw0rd"), "{text}");
    }
    let posts = operator.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(posts, 1, "the doctor sends no notice");
}

#[tokio::test]
async fn former_secret_has_a_notice_before_it_ends() {
    let api = Api::start().await;
    let anna = api.sign_in("anna").await;
    let world = &api.world;
    let webhook = world.webhook_of("anna", "http://192.0.2.1/hook", &[]).await;
    let other = world.webhook_of("anna", "http://192.0.2.2/hook", &[]).await;
    for (webhook, overlap) in [(&webhook, "2h"), (&other, "7d")] {
        let path = format!("/api/v1/webhooks/{webhook}/secret");
        let rotated = anna.post(&path, &json!({ "overlap": overlap })).await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
    }
    let _router = world.spawn_with_envs("router", &[("FANFARE_NOTICES_EVERY", "1s")]);
    let notice = sent(world, "secret.ending").await;
    assert_eq!(notice["webhook"], json!(webhook));
    checks(world, 3).await;
    assert_eq!(listed(world).await, ["secret.ending"]);
}

#[tokio::test]
async fn directory_that_is_not_complete_has_a_notice_and_is_resolved() {
    let operator = Receiver::start().await;
    let world = world_with(&operator).await;
    let _router = world.start("router").await;
    sent(&world, "directory.incomplete").await;
    world.directory_of_anna().await;
    sent(&world, "directory.resolved").await;
    let bodies: Vec<Value> = operator
        .requests()
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    let kinds: Vec<&Value> = bodies.iter().map(|body| &body["type"]).collect();
    assert_eq!(kinds, ["fanfare.directory.incomplete", "fanfare.directory.resolved"]);
}

#[tokio::test]
async fn users_see_the_notices_about_their_own_webhooks_alone() {
    let api = Api::start().await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let root = api.sign_in("root").await;
    let webhook = api.world.webhook_of("anna", "http://192.0.2.1/hook", &[]).await;
    api.world.insert_dead(&webhook, 1);
    let gone = "update webhooks set paused = true, paused_reason = 'gone'";
    api.world.sql(gone);
    let _router = api.world.start("router").await;
    sent(&api.world, "webhook.paused").await;
    let count = async |user: &crate::api_v1::User| {
        let page = user.read("/api/v1/notices").await;
        page["items"].as_array().unwrap().len()
    };
    assert_eq!((count(&anna).await, count(&bob).await, count(&root).await), (1, 0, 2));
    let first = root.read("/api/v1/notices?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let second = root.read(&format!("/api/v1/notices?limit=1&cursor={next}")).await;
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
    assert_eq!(second["next"], Value::Null);
}
