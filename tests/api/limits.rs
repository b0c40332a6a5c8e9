//! The limit on the number of an owner's webhooks.

use fanfare_testkit::receiver::Receiver;
use futures_util::future::join_all;
use serde_json::json;

use super::{Api, QUIET, failure, of};
use crate::world::World;

const MOST: usize = 3;

async fn start() -> Api {
    let world = World::new().await;
    Api::on(world.with("FANFARE_WEBHOOKS_PER_OWNER", &MOST.to_string())).await
}

#[tokio::test]
async fn concurrent_registrations_stay_within_the_limit_of_an_owner() {
    let api = start().await;
    let (anna, bob) = (api.user("anna", &[]).await, api.user("bob", &[]).await);
    let wanted = json!({ "WebHookUri": QUIET });
    let answers = join_all((0..12).map(|_| anna.post(&wanted))).await;
    let registered = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(registered, MOST);
    let full = "A user may have at most 3 WebHooks; delete one that is not used any more first.";
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.is(400, Some(&failure(full)));
    }
    // Deleting a webhook makes room, and each owner has a limit of their own.
    let ids = anna.ids("").await;
    anna.send("DELETE", &of(&ids[0]), b"").await.is(200, None);
    anna.register().await;
    anna.post(&wanted).await.is(400, Some(&failure(full)));
    bob.register().await;
    // Existing webhooks can be changed.
    anna.put(&ids[1], &json!({ "WebHookUri": QUIET, "IsPaused": true })).await.is(200, None);
}

#[tokio::test]
async fn commands_respect_the_limit_and_existing_webhooks_beyond_it_stay() {
    let api = start().await;
    let add = ["webhooks", "add", "--no-verify", "--owner", "anna", "--url", QUIET];
    for _ in 0..MOST {
        api.world.fanfare(&add).await;
    }
    let output = api.world.run(&add, None).await;
    assert!(output.stderr.contains("FANFARE_WEBHOOKS_PER_OWNER"), "{}", output.stderr);

    let list = api.world.json(&["webhooks", "list"]).await;
    let ids = ["0f8fad5bd9cb469fa16570867728950e", "1f8fad5bd9cb469fa16570867728950e"];
    let new = |owner: &str, id: &str| {
        json!({ "Id": id, "WebHookUri": QUIET, "User": owner,
                "Secret": "0123456789abcdef0123456789abcdef" })
    };
    let file = std::env::temp_dir().join(format!("fanfare-{}.json", crate::world::unique()));
    let import = async |entries: serde_json::Value| {
        std::fs::write(&file, entries.to_string()).unwrap();
        api.world.run(&["webhooks", "import", &file.to_string_lossy()], None).await
    };
    let output = import(json!([new("bob", ids[0]), new("anna", ids[1])])).await;
    assert!(
        output.stderr.contains("'anna' has the highest number of webhooks"),
        "{}",
        output.stderr
    );
    assert_eq!(api.world.json(&["webhooks", "list"]).await, list);
    // She gets no new webhook, so nothing is refused although she is beyond the limit.
    let more: Vec<&str> = add.into_iter().chain(["--webhooks-per-owner", "100"]).collect();
    for _ in 0..MOST {
        api.world.fanfare(&more).await;
    }
    let output = import(json!([list[0].clone(), new("bob", ids[0])])).await;
    assert!(output.stdout.contains("imported 1; skipped 1"), "{output:?}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        api.world.json(&["webhooks", "list", "--owner", "anna"]).await.as_array().unwrap().len(),
        6
    );
}

#[tokio::test]
async fn address_is_not_verified_when_its_owner_is_at_the_limit() {
    let api = start().await;
    let anna = api.user("anna", &[]).await;
    for _ in 0..MOST {
        anna.register().await;
    }
    let receiver = Receiver::start().await;
    let url = receiver.url("/");
    assert_eq!(anna.post(&json!({ "WebHookUri": url })).await.status, 400);
    let output = api.world.run(&["webhooks", "add", "--owner", "anna", "--url", &url], None).await;
    assert!(output.stderr.contains("FANFARE_WEBHOOKS_PER_OWNER"), "{}", output.stderr);
    assert_eq!(receiver.connections(), 0);
}
