//! Settings from flags, environment and file, and how mistakes in them are told.

use serde_json::Value;

use crate::command::{Ended, Place};

#[track_caller]
fn setting(ended: &Ended, name: &str) -> (Value, String) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let all: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let found = all.iter().find(|setting| setting["name"] == name).unwrap();
    (found["value"].clone(), found["from"].as_str().unwrap().to_owned())
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    place
        .file("fanfare.toml", "timeout = \"1s\"\nconnect_timeout = \"1s\"\nretry_first = \"1s\"\n");
    let variables = [("FANFARE_TIMEOUT", "2s"), ("FANFARE_CONNECT_TIMEOUT", "2s")];
    let ended = place.run_with(&variables, &["config", "--json", "--timeout", "3s"]);
    assert_eq!(setting(&ended, "FANFARE_TIMEOUT"), ("3s".into(), "flag --timeout".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_CONNECT_TIMEOUT"), ("2s".into(), "environment".to_owned()));
    assert_eq!(
        setting(&ended, "FANFARE_RETRY_FIRST"),
        ("1s".into(), "file fanfare.toml".to_owned())
    );
    assert_eq!(setting(&ended, "FANFARE_RETRY_ATTEMPTS"), ("12".into(), "default".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_DATABASE_URL"), (Value::Null, "not set".to_owned()));
}

#[test]
fn another_file_can_be_named() {
    let place = Place::new();
    place.file("fanfare.toml", "timeout = \"1s\"\n");
    let other = place.file("other.toml", "timeout = \"9s\"\n");
    let path = other.to_str().unwrap();
    for ended in [
        place.run(&["--config", path, "config", "--json"]),
        place.run(&["config", "--json", "--config", path]),
        place.run_with(&[("FANFARE_CONFIG", path)], &["config", "--json"]),
    ] {
        assert_eq!(setting(&ended, "FANFARE_TIMEOUT").0, "9s");
    }
    let ended = place.run(&["--config", "missing.toml", "config"]);
    assert!(ended.failed_with(2).contains("missing.toml"));
}

#[test]
fn secrets_are_masked_wherever_they_come_from() {
    let place = Place::new();
    place.file("fanfare.toml", "database_url = \"postgres://anna:hidden@db/fanfare\"\n");
    let key = format!("k1:{}=", "A".repeat(43));
    let variables = [("FANFARE_SECRET_KEYS", key.as_str())];
    for arguments in [&["config"][..], &["config", "--json"]] {
        let mut all = arguments.to_vec();
        all.extend(["--amqp-url", "amqp://anna:hidden@mq/vhost"]);
        let ended = place.run_with(&variables, &all);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("postgres://anna:***@db/fanfare"), "{}", ended.stdout);
        assert!(ended.stdout.contains("amqp://anna:***@mq/vhost"), "{}", ended.stdout);
        for secret in ["hidden", "AAAA"] {
            assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
        }
    }
}

#[test]
fn a_mistake_names_the_setting_its_place_and_the_form() {
    let place = Place::new();
    let ended = place.run_with(&[("FANFARE_RETRY_ATTEMPTS", "many")], &["config"]);
    assert_eq!(
        ended.failed_with(2),
        "FANFARE_RETRY_ATTEMPTS is \"many\" (from the environment); give a whole number, at least 1"
    );
    let mask = "connection-strings,people:$.Name";
    let ended = place.run_with(&[("FANFARE_MASK", mask)], &["config"]);
    let message = ended.failed_with(2);
    for part in ["FANFARE_MASK", "there is no filter \"people\"", "from the environment"] {
        assert!(message.contains(part), "{message}");
    }
    place.file("fanfare.toml", "retry_atempts = 3\n");
    let message = place.run(&["config"]).failed_with(2).to_owned();
    assert!(message.contains("fanfare.toml") && message.contains("retry_attempts"), "{message}");
    place.file("fanfare.toml", "log_format = \"xml\"\n");
    assert!(place.run(&["config"]).failed_with(2).contains("from the file fanfare.toml"));
}

#[test]
fn showing_the_settings_makes_no_key() {
    let place = Place::new();
    let ended = place.run(&["config", "--json"]);
    let (value, from) = setting(&ended, "FANFARE_SECRET_KEYS");
    assert_eq!(value, Value::Null);
    assert!(from.contains(".local/state/fanfare/secret-keys"), "{from}");
    assert!(!place.path().join(".local").exists());
}
