//! `fanfare webhooks`.

use serde_json::{Value, json};

use crate::listen::Receiver;
use crate::servers::{CliWithServers, keys};

#[tokio::test]
async fn webhook_is_added_shown_paused_resumed_and_deleted() {
    let servers = CliWithServers::migrated().await;
    let secret = "0123456789abcdef0123456789abcdef";
    let added = servers.run(&[
        "webhooks",
        "add",
        "--owner",
        "Anna",
        "--url",
        "https://example.org/hook?a=b",
        "--secret",
        secret,
        "--filter",
        "Reports.Delete",
        "--filter",
        "tasks",
        "--description",
        "for anna",
        "--header",
        "X-Key: 1",
        "--property",
        "team=blue",
        "--paused",
        "--no-verify",
        "--json",
    ]);
    assert_eq!(added.code(), Some(0), "{added:?}");
    assert!(added.stderr.contains("Anna is not in the directory"), "{}", added.stderr);
    let webhook: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!(
        keys(&webhook),
        [
            "Id",
            "WebHookUri",
            "Secret",
            "Description",
            "IsPaused",
            "Filters",
            "Headers",
            "Properties",
            "User",
            "PausedReason",
            "OwnerState",
            "RateLimit",
            "HeldUntil",
            "WhilePaused",
        ]
    );
    assert_eq!(webhook["Secret"], secret);
    assert_eq!(webhook["Filters"], json!(["reports.delete", "tasks"]));
    assert_eq!(webhook["Headers"], json!({"X-Key": "1"}));
    assert_eq!(webhook["Properties"], json!({"team": "blue"}));
    assert_eq!((&webhook["IsPaused"], &webhook["User"]), (&json!(true), &json!("Anna")));

    let id = webhook["Id"].as_str().unwrap();
    assert_eq!(servers.json(&["webhooks", "show", id]), webhook);
    servers.ok(&["webhooks", "resume", id]);
    let listed = servers.json(&["webhooks", "list", "--owner", "ANNA"]);
    assert_eq!((&listed[0]["Id"], &listed[0]["IsPaused"]), (&json!(id), &json!(false)));
    assert_eq!(listed[0]["Secret"], secret);
    assert!(!servers.ok(&["webhooks", "list"]).contains(secret));
    assert_eq!(servers.json(&["webhooks", "list", "--owner", "bob"]), json!([]));
    assert_eq!(servers.ok(&["webhooks", "pause", id]), format!("paused {id}\n"));
    assert_eq!(servers.json(&["webhooks", "show", id])["IsPaused"], true);
    servers.ok(&["webhooks", "delete", id]);
    for command in ["show", "pause", "delete"] {
        let ended = servers.run(&["webhooks", command, id]);
        assert!(ended.failed_with(1).contains("there is no webhook"), "{ended:?}");
    }
}

#[tokio::test]
async fn webhooks_set_changes_only_what_is_given() {
    let servers = CliWithServers::migrated().await;
    let add =
        ["webhooks", "add", "--owner", "anna", "--url", "https://example.org/a", "--no-verify"];
    let more = ["--description", "for anna", "--header", "X-Key: 1", "--rate-limit", "60"];
    let before = servers.json(&[add.as_slice(), &more].concat());
    let id = before["Id"].as_str().unwrap();
    assert_eq!(before["RateLimit"], 60);
    assert_eq!(servers.json(&["webhooks", "set", id]), before);

    let set = ["webhooks", "set", id, "--rate-limit", "none", "--filter", "tasks"];
    let changed = servers.json(&set);
    let mut expected = before.clone();
    (expected["RateLimit"], expected["Filters"]) = (Value::Null, json!(["tasks"]));
    assert_eq!(changed, expected);

    let moved = ["--url", "https://example.org/b", "--no-verify", "--description", ""];
    let moved = servers.json(&[["webhooks", "set", id].as_slice(), &moved].concat());
    assert_eq!(moved["WebHookUri"], "https://example.org/b");
    assert_eq!((&moved["Description"], &moved["Secret"]), (&Value::Null, &before["Secret"]));
    assert_eq!(servers.json(&["webhooks", "list"])[0], moved);

    let not_verified = servers.run(&["webhooks", "set", id, "--url", "http://127.0.0.1:1/"]);
    let error = not_verified.failed_with(1);
    assert!(error.contains("Nothing was changed"), "{error}");
    assert_eq!(servers.json(&["webhooks", "show", id]), moved);
    for (option, value, words) in [
        ("--rate-limit", "0", "from 1 to 1000000"),
        ("--filter", "galaxies", "filters are not valid: 'galaxies'"),
        ("--url", "ftp://x/", "must be absolute with a scheme"),
    ] {
        let ended = servers.run(&["webhooks", "set", id, option, value]);
        assert!(ended.failed_with(2).contains(words), "{ended:?}");
    }
}

#[tokio::test]
async fn invalid_webhook_exits_with_2() {
    let servers = CliWithServers::migrated().await;
    for (arguments, words) in [
        (["--url", "ftp://x/", "--filter", "*"], "must be absolute with a scheme"),
        (["--url", "http://x/", "--filter", "galaxies"], "filters are not valid: 'galaxies'"),
        (["--url", "http://x/", "--header", "Host: x"], "The header 'Host'"),
        (["--url", "http://x/", "--secret", "short"], "between 32 and 128 characters"),
        (["--url", "http://x/", "--property", "x"], "Name=value"),
    ] {
        let mut all = vec!["webhooks", "add", "--owner", "anna", "--no-verify"];
        all.extend(arguments);
        let ended = servers.run(&all);
        assert!(ended.failed_with(2).contains(words), "{ended:?}");
    }
}

#[tokio::test]
async fn verification_and_ping_respect_the_allowed_targets() {
    let servers = CliWithServers::migrated().await;
    let secret = "0123456789abcdef0123456789abcdef";
    let mut receiver = Receiver::start(&["--secret", secret, "--json"]);
    let url = format!("http://{}/hook", receiver.address);
    let add = ["webhooks", "add", "--owner", "anna", "--secret", secret, "--url", &url];
    let blocked = servers.run(&add);
    assert_eq!(blocked.code(), Some(1), "{blocked:?}");
    assert!(blocked.stderr.contains("WebHook verification failed"), "{}", blocked.stderr);

    let mut allowed = add.to_vec();
    allowed.extend(["--allow-targets", "127.0.0.0/8"]);
    let webhook = servers.json(&allowed);
    let id = webhook["Id"].as_str().unwrap();
    let ping = ["webhooks", "ping", id, "--allow-targets", "127.0.0.1"];
    assert!(servers.ok(&ping).contains("answered 200"));
    let shown = receiver.json();
    assert_eq!((&shown["msSignature"], &shown["webhookSignature"]), (&json!(true), &json!(true)));

    let refusing = Receiver::start(&["--status", "500"]);
    let elsewhere = format!("http://{}/?NoEcho", refusing.address);
    let add = ["webhooks", "add", "--owner", "anna", "--url", &elsewhere];
    let webhook = servers.json(&add);
    let id = webhook["Id"].as_str().unwrap();
    let ended = servers.run(&["webhooks", "ping", id, "--allow-targets", "127.0.0.1"]);
    assert!(ended.failed_with(1).contains("answered 500"), "{ended:?}");
}
