//! Names are compared as by the report server, in every place: without case, character by
//! character, and a character beyond ASCII never equals one within it.

use serde_json::{Value, json};

use crate::api::client::{Answer, send};
use crate::console::{Console, PASSWORD};
use crate::world::{SOON, World, event};
use fanfare_testkit::wait::eventually;
use url::form_urlencoded;

const QUIET: &str = "http://192.0.2.1/hook?noecho";

/// Pairs of distinct names that a coarser comparison would treat as equal.
const PAIRS: [(&str, &str); 6] = [
    ("strau\u{df}", "strauss"),
    ("\u{212a}arl", "karl"),
    ("adm\u{131}n", "admin"),
    ("o\u{fb03}ce", "office"),
    ("\u{e9}mile", "e\u{301}mile"),
    ("\u{17f}ven", "sven"),
];

async fn token(console: &Console, name: &str, password: &str) -> Answer {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "password"), ("username", name), ("password", password)])
        .finish();
    send(console.address, "POST", "/Token", &[], form.as_bytes()).await.unwrap()
}

async fn bearer(console: &Console, name: &str) -> String {
    let granted = token(console, name, PASSWORD).await.json();
    format!("Bearer {}", granted["access_token"].as_str().unwrap())
}

async fn get(console: &Console, bearer: &str, path: &str) -> Answer {
    send(console.address, "GET", path, &[("Authorization", bearer)], b"").await.unwrap()
}

fn query(path: &str, name: &str, value: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
    format!("{path}?{query}")
}

#[tokio::test]
async fn accounts_and_webhooks_belong_to_one_of_two_similar_names() {
    let console = Console::start().await;
    console.add(&["root"], &["--admin"]).await;
    let root = bearer(&console, "root").await;
    for (one, other) in PAIRS {
        console.add(&[one], &[]).await;
        assert_eq!(token(&console, other, PASSWORD).await.status, 400, "{other}");
        // The other name is free for another account.
        let add = ["users", "add", other, "--password-stdin"];
        let added = console.world.fanfare_with(&add, Some("other password")).await;
        assert!(added.starts_with("added"), "{added}");
        assert_eq!(token(&console, other, PASSWORD).await.status, 400, "{other}");
        assert_eq!(token(&console, one, PASSWORD).await.status, 200, "{one}");

        let id = console.world.webhook_of(one, QUIET, &[]).await;
        let list =
            async |owner: &str| console.world.json(&["webhooks", "list", "--owner", owner]).await;
        assert_eq!(list(one).await[0]["Id"], id.as_str());
        assert_eq!(list(other).await, json!([]), "{other}");
        let of = async |user: &str| {
            get(&console, &root, &query("/api/webhooks/registrations", "user", user)).await.json()
        };
        assert_eq!(of(one).await[0]["Id"], id.as_str());
        assert_eq!(of(other).await, json!([]), "{other}");
        let own = get(&console, &bearer(&console, one).await, "/api/webhooks/registrations").await;
        assert_eq!(own.json()[0]["Id"], id.as_str());
    }
    // These names are equal.
    console.add(&["\u{c4}NNE"], &[]).await;
    assert_eq!(token(&console, "\u{e4}nne", PASSWORD).await.status, 200);
    let again = ["users", "add", "\u{e4}nne", "--password-stdin"];
    let again = console.world.fanfare_with(&again, Some(PASSWORD)).await;
    assert!(again.starts_with("the account existed"), "{again}");
}

/// An installation whose directory grants `strauss` all tasks, and whose `mallory` has a role with
/// almost the name of the built-in one.
async fn world() -> World {
    let world = World::new().await;
    world
        .directory(&json!({
            "users": [
                { "name": "strauss", "permissions": [{ "access": ["read"], "scope": "any-task" }] },
                { "name": "strau\u{df}" },
                { "name": "mallory", "roles": ["\u{17f}y\u{17f}tem Admini\u{17f}trator", "Reader\u{df}"] },
                { "name": "\u{e4}nne", "roles": ["SYSTEM ADMINISTRATOR"] },
            ],
            "roles": [
                { "name": "Readerss", "permissions": [{ "access": ["read"], "scope": "any-task" }] },
            ]
        }))
        .await;
    world
}

#[tokio::test]
async fn rights_belong_to_one_of_two_similar_names() {
    let world = world().await;
    let _router = world.start("router").await;
    let mut ids = Vec::new();
    for owner in ["STRAUSS", "strau\u{df}", "mallory", "\u{c4}nne"] {
        ids.push(world.webhook_of(owner, QUIET, &[]).await);
    }
    world.publish(&event()).await;
    let owners = async |owner: &str| -> Vec<Value> {
        let list = world.json(&["deliveries", "list", "--owner", owner]).await;
        list.as_array().unwrap().iter().map(|delivery| delivery["webhook"].clone()).collect()
    };
    eventually("the event is planned", SOON, async || match owners("strauss").await {
        found if found.is_empty() => Err(found),
        found => Ok(found),
    })
    .await;
    assert_eq!(owners("strauss").await, [ids[0].as_str()]);
    assert_eq!(owners("strau\u{df}").await, [""; 0], "strau\u{df} got the rights of strauss");
    assert_eq!(owners("mallory").await, [""; 0], "mallory is an administrator");
    assert_eq!(owners("\u{c4}NNE").await, [ids[3].as_str()]);

    let console = Console::on(world).await;
    console.add(&["mallory", "\u{e4}nne", "strauss"], &[]).await;
    let all = "/api/webhooks/registrations?user=all";
    let status = async |name: &str, path: &str| {
        get(&console, &bearer(&console, name).await, path).await.status
    };
    assert_eq!(status("mallory", all).await, 403);
    assert_eq!(status("\u{e4}nne", all).await, 200);
    let of = async |owner: &str| {
        let path = query("/api/v1/deliveries", "owner", owner);
        get(&console, &bearer(&console, "\u{e4}nne").await, &path).await.body
    };
    assert!(of("strauss").await.contains(&ids[0]));
    assert!(!of("strau\u{df}").await.contains(&ids[0]));
}
