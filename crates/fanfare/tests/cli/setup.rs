//! The set-up of an installation: tables, keys, accounts, the directory, and the doctor.

use std::path::Path;

use serde_json::{Value, json};

use crate::command::Cli;
use crate::servers::{CliWithServers, keys};

#[tokio::test]
async fn database_is_migrated_once() {
    let servers = CliWithServers::new().await;
    let before = servers.run(&["webhooks", "list"]);
    assert_eq!(before.code(), Some(2), "{before:?}");
    assert!(before.stderr.ends_with("run `fanfare migrate`\n"), "{before:?}");
    assert!(servers.ok(&["migrate"]).starts_with("applied "));
    assert_eq!(servers.ok(&["migrate"]), "the database is up to date\n");
    assert_eq!(servers.json(&["webhooks", "list"]), json!([]));
}

#[tokio::test]
async fn key_of_a_machine_is_created_and_announced_once() {
    let servers = CliWithServers::new().await;
    let first = servers.run(&["migrate"]);
    assert!(first.stderr.contains("FANFARE_SECRET_KEYS"), "{}", first.stderr);
    let second = servers.run(&["migrate"]);
    assert_eq!(second.stderr, "");
    assert!(servers.cli.path().join(".local/state/fanfare/secret-keys").exists());
}

#[tokio::test]
async fn accounts_are_added_with_a_password_from_stdin() {
    let servers = CliWithServers::migrated().await;
    let add = |password: &str| {
        let arguments = ["users", "add", "Anna", "--admin", "--password-stdin"];
        servers.cli.run_with_stdin(&arguments, password)
    };
    assert!(add("a long pass word\r\n").stdout.starts_with("added Anna"));
    assert!(add("another long one").stdout.contains("existed"));
    assert!(add("\n").failed_with(2).contains("at least 12"));
    assert!(add("eleven char\n").failed_with(2).contains("11 characters; give one of at least 12"));
    assert!(add(&"a".repeat(5000)).failed_with(2).contains("at most 1024"));
    let ended = servers.run(&["users", "add", "Anna"]);
    assert!(ended.failed_with(2).contains("--password-stdin"));
    let row =
        servers.sandbox.sql("select name_key, administrator, password_hash from accounts").unwrap();
    assert!(row.starts_with("anna|t|$argon2id$"), "{row}");
}

#[tokio::test]
async fn accounts_are_listed_disabled_enabled_and_removed() {
    let servers = CliWithServers::migrated().await;
    let with_password = |args: &[&str], password: &str| servers.cli.run_with_stdin(args, password);
    let accounts = || -> serde_json::Value {
        serde_json::from_str(&servers.ok(&["users", "list", "--json"])).unwrap()
    };
    let hash = || servers.sandbox.sql("select password_hash from accounts").unwrap();
    assert_eq!(accounts(), serde_json::json!([]));
    let added = with_password(&["users", "add", "Anna", "--password-stdin"], "a long password");
    assert!(added.stdout.starts_with("added Anna"), "{added:?}");
    let anna = accounts()[0].clone();
    assert_eq!((&anna["name"], &anna["administrator"]), (&"Anna".into(), &false.into()));
    assert_eq!((&anna["sessions"], &anna["disabledAt"]), (&0.into(), &serde_json::Value::Null));

    assert_eq!(
        servers.ok(&["users", "disable", "anna", "--reason", "on leave"]),
        "disabled anna\n"
    );
    assert_eq!(accounts()[0]["disabledReason"], "on leave");
    assert!(accounts()[0]["disabledAt"].is_string());
    // The first reason stays.
    servers.ok(&["users", "disable", "anna"]);
    assert!(servers.ok(&["users", "list"]).contains("on leave"));
    assert_eq!(servers.ok(&["users", "enable", "ANNA"]), "enabled ANNA\n");
    assert_eq!(accounts()[0]["disabledReason"], serde_json::Value::Null);

    let before = hash();
    let password = ["users", "password", "anna", "--password-stdin"];
    assert!(with_password(&password, "short").failed_with(2).contains("at least 12"));
    assert_eq!(hash(), before);
    assert!(with_password(&password, "another password").stdout.starts_with("changed"));
    assert_ne!(hash(), before);

    assert_eq!(servers.ok(&["users", "remove", "anna"]), "removed anna\n");
    assert_eq!(accounts(), serde_json::json!([]));
    for command in ["remove", "disable", "enable"] {
        let ended = servers.run(&["users", command, "anna"]);
        assert!(ended.failed_with(1).contains("there is no account 'anna'"), "{command}");
    }
    assert!(with_password(&password, "another password").failed_with(1).contains("no account"));
}

#[tokio::test]
async fn directory_is_imported_with_its_revisions() {
    let servers = CliWithServers::migrated().await;
    let file = |text: &str| servers.cli.file("directory.json", text).display().to_string();
    let bare = file(r#"{"users":[{"name":"anna","roles":["r"]}],"roles":[{"name":"r"}]}"#);
    let imported = servers.ok(&["directory", "import", &bare]);
    assert_eq!(
        imported,
        "imported a snapshot with 1 users and 1 roles: 2 new; the directory is at revision 1\n"
    );
    let imported = servers.ok(&["directory", "import", &bare, "--revision", "7"]);
    assert!(imported.ends_with("at revision 7\n"), "{imported}");
    let lines = file(
        "{\"type\":\"directory.user\",\"accessrevision\":8,\"data\":{\"name\":\"bob\"}}\n\
         {\"type\":\"directory.user\",\"accessrevision\":9,\"data\":{\"name\":\"anna\",\"deleted\":true}}\n",
    );
    assert!(
        servers
            .ok(&["directory", "import", &lines])
            .contains("2 new; the directory is at revision 9")
    );
    assert!(servers.ok(&["directory", "import", &lines]).contains("0 new"));

    let wrong = file(
        "[{\"type\":\"directory.user\",\"accessrevision\":10,\"data\":{\"name\":\"x\"}},\n{\"users\":[{}]}]",
    );
    let ended = servers.run(&["directory", "import", &wrong]);
    assert!(ended.failed_with(1).contains("line 2"), "{ended:?}");
    let far = file(r#"{"type":"directory.user","accessrevision":5000000,"data":{"name":"x"}}"#);
    let ended = servers.run(&["directory", "import", &far]);
    assert!(ended.failed_with(1).contains("accept-revision 5000000"), "{ended:?}");
    let accepted = servers.ok(&["directory", "accept-revision", "5000000"]);
    assert!(accepted.contains("the directory is at revision 9;"), "{accepted}");
    assert!(servers.ok(&["directory", "import", &far]).contains("at revision 5000000"));
    let bare = file(r#"{"users":[{"name":"anna","roles":["r"]}],"roles":[{"name":"r"}]}"#);
    let reset = ["directory", "import", &bare, "--reset-revision"];
    assert!(servers.run(&reset).failed_with(2).contains("needs a revision"));
    let reset = [&reset[..], &["--revision", "4"]].concat();
    assert!(servers.ok(&reset).contains("2 new; the directory is at revision 4"));
    let user = file(r#"{"type":"directory.user","accessrevision":5,"data":{"name":"bob"}}"#);
    let reset = ["directory", "import", &user, "--reset-revision"];
    assert!(servers.run(&reset).failed_with(2).contains("one snapshot and nothing else"));
    assert_eq!(servers.ok(&["directory", "accept-refused"]), "no snapshot was refused\n");
    let missing = servers.run(&["directory", "import", "missing.json"]);
    assert!(missing.failed_with(1).contains("missing.json"));
}

#[tokio::test]
async fn doctor_reports_each_fault() {
    let servers = CliWithServers::new().await;
    let ill = servers.run(&["doctor"]);
    assert_eq!(ill.code(), Some(1));
    for words in
        ["ok     database", "WRONG  migrations", "fanfare migrate", "WRONG  queue fanfare.events:"]
    {
        assert!(ill.stdout.contains(words), "{words}: {}", ill.stdout);
    }
    servers.ok(&["migrate"]);
    servers.session().await.close().await;
    let well = servers.run(&["doctor"]);
    assert_eq!(well.code(), Some(0), "{}", well.stdout);

    servers.ok(&["webhooks", "add", "--owner", "a", "--url", "http://x/?noecho"]);
    let key = format!("other:{}=", "A".repeat(43));
    let ill = servers.run(&["doctor", "--secret-keys", &key]);
    assert!(ill.stdout.contains("WRONG  secrets"), "{}", ill.stdout);
    make_public(&servers.cli.path().join(".local/state/fanfare/secret-keys"));
    assert!(servers.run(&["doctor"]).stdout.contains("chmod 600"));

    let away = [
        ("FANFARE_DATABASE_URL", "postgres://x@127.0.0.1:1/x"),
        ("FANFARE_AMQP_URL", "amqp://127.0.0.1:1"),
    ];
    let ill = servers.cli.run_with(&away, &["doctor"]);
    assert!(ill.stdout.contains("check that PostgreSQL runs"), "{}", ill.stdout);
    assert!(ill.stdout.contains("check that RabbitMQ runs"), "{}", ill.stdout);
    let unset = Cli::new().run(&["doctor"]);
    assert!(unset.stdout.contains("FANFARE_DATABASE_URL is not set"), "{}", unset.stdout);
}

#[tokio::test]
async fn doctor_with_json_prints_one_array_of_checks() {
    let servers = CliWithServers::new().await;
    let ill = servers.run(&["doctor", "--json"]);
    assert_eq!(ill.code(), Some(1), "{ill:?}");
    let checks: Vec<Value> = serde_json::from_str(&ill.stdout).unwrap();
    let find = |name: &str| checks.iter().find(|one| one["check"] == name).unwrap();
    assert_eq!(keys(find("database")), ["check", "ok", "detail"]);
    assert_eq!(find("database")["ok"], true);
    assert_eq!(find("migrations")["ok"], false);
    assert!(find("migrations")["detail"].as_str().unwrap().contains("fanfare migrate"));
}

fn make_public(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn missing_urls_are_reported_before_anything_is_done() {
    let cli = Cli::new();
    for (name, command) in [
        ("FANFARE_DATABASE_URL", ["webhooks", "list"]),
        ("FANFARE_DATABASE_URL", ["deliveries", "list"]),
        ("FANFARE_AMQP_URL", ["publish", "-"]),
        ("FANFARE_DATABASE_URL", ["dead-letters", "list"]),
    ] {
        let ended = cli.run(&command);
        assert!(ended.failed_with(2).contains(&format!("{name} is not set")), "{ended:?}");
    }
}

#[test]
fn unusable_urls_exit_with_2() {
    let cli = Cli::new();
    let key = format!("k:{}=", "A".repeat(43));
    for (name, url, command) in [
        ("FANFARE_DATABASE_URL", "postgres://x:y:z@:::/", ["webhooks", "list"]),
        ("FANFARE_AMQP_URL", "amqp:///nohost", ["publish", "-"]),
    ] {
        let ended = cli.run_with(&[(name, url), ("FANFARE_SECRET_KEYS", &key)], &command);
        assert!(ended.failed_with(2).contains(name), "{ended:?}");
    }
}
