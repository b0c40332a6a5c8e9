//! Settings from flags, environment and files, and the errors about invalid ones.

use fanfare_testkit::process::Output;
use serde_json::Value;

use crate::command::Cli;

#[track_caller]
fn setting(ended: &Output, name: &str) -> (Value, String) {
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let all: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let found = all.iter().find(|setting| setting["name"] == name).unwrap();
    (found["value"].clone(), found["from"].as_str().unwrap().to_owned())
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "timeout = \"1s\"\nconnect_timeout = \"1s\"\nretry_first = \"1s\"\n");
    let variables = [("FANFARE_TIMEOUT", "2s"), ("FANFARE_CONNECT_TIMEOUT", "2s")];
    let ended = cli.run_with(&variables, &["config", "--json", "--timeout", "3s"]);
    assert_eq!(setting(&ended, "FANFARE_TIMEOUT"), ("3s".into(), "flag --timeout".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_CONNECT_TIMEOUT"), ("2s".into(), "environment".to_owned()));
    assert_eq!(
        setting(&ended, "FANFARE_RETRY_FIRST"),
        ("1s".into(), "file fanfare.toml".to_owned())
    );
    assert_eq!(setting(&ended, "FANFARE_RETRY_ATTEMPTS"), ("12".into(), "default".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_DATABASE_URL"), (Value::Null, "not set".to_owned()));
}

/// The defaults, which operators rely on. `null` stands for a setting without one.
const DEFAULTS: [(&str, &str); 47] = [
    ("FANFARE_CONSOLE_LISTEN", "127.0.0.1:8080"),
    ("FANFARE_CONSOLE_PROXIES", ""),
    ("FANFARE_LOCAL_ACCOUNTS", "yes"),
    ("FANFARE_OIDC_SCOPES", "openid profile"),
    ("FANFARE_OIDC_USER_CLAIM", "preferred_username"),
    ("FANFARE_OIDC_LABEL", "single sign-on"),
    ("FANFARE_METRICS_LISTEN", "off"),
    ("FANFARE_OTLP_ENDPOINT", "off"),
    ("OTEL_EXPORTER_OTLP_HEADERS", ""),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
    ("OTEL_TRACES_SAMPLER_ARG", "1"),
    ("FANFARE_ALLOW_TARGETS", ""),
    ("FANFARE_RETRY_FIRST", "5s"),
    ("FANFARE_RETRY_MAX_DELAY", "12h"),
    ("FANFARE_RETRY_ATTEMPTS", "12"),
    ("FANFARE_DELIVERY_DEADLINE", "72h"),
    ("FANFARE_CONNECT_TIMEOUT", "5s"),
    ("FANFARE_TIMEOUT", "15s"),
    ("FANFARE_SHADOW", "off"),
    ("FANFARE_DIRECTORY_HOLD", "30s"),
    ("FANFARE_DIRECTORY_GAP", "hold"),
    ("FANFARE_DIRECTORY_GAP_WAIT", "5s"),
    ("FANFARE_DIRECTORY_HISTORY", "7d"),
    ("FANFARE_MASK", "connection-strings"),
    ("FANFARE_KEEP_FACTS", "90d"),
    ("FANFARE_KEEP_PAYLOADS", "30d"),
    ("FANFARE_KEEP_AUDIT", "400d"),
    ("FANFARE_RECOGNITION", "30d"),
    ("FANFARE_PREFETCH", "256"),
    ("FANFARE_DELIVERY_QUEUES", "1"),
    ("FANFARE_CONCURRENCY", "1024"),
    ("FANFARE_WEBHOOK_CONCURRENCY", "64"),
    ("FANFARE_WEBHOOKS_PER_OWNER", "100"),
    ("FANFARE_PAUSE_FAILING_AFTER", "5d"),
    ("FANFARE_DATABASE_CONNECTIONS", "8"),
    ("FANFARE_NOTICES_EVERY", "1m"),
    ("FANFARE_NOTICES_QUIET", "15m"),
    ("FANFARE_NOTICES_LATE", "1h"),
    ("FANFARE_NOTICES_MAIL_DOMAINS", ""),
    ("FANFARE_BRIDGE_LISTEN", "127.0.0.1:8090"),
    ("FANFARE_BRIDGE_SOURCE", "/report-server"),
    ("FANFARE_BRIDGE_JOURNAL", "1024"),
    ("FANFARE_BRIDGE_POLL", "1m"),
    ("FANFARE_LOG", "info"),
    ("FANFARE_LOG_FORMAT", "text"),
    // Settings without a default have no value either.
    ("FANFARE_RECEIVER_CA_FILE", "null"),
    ("FANFARE_DATABASE_DISK", "null"),
];

#[test]
fn settings_have_their_defaults_and_three_names_that_agree() {
    let cli = Cli::new();
    let all = settings(&cli);
    for (name, default) in DEFAULTS {
        let found = all.iter().find(|setting| setting["name"] == name).unwrap();
        let default = if default == "null" { Value::Null } else { default.into() };
        assert_eq!((&found["default"], &found["value"]), (&default, &default), "{name}");
    }
    for setting in &all {
        let [name, flag, key] = ["name", "flag", "key"].map(|it| setting[it].as_str().unwrap());
        // OpenTelemetry gives some variables their names.
        if !name.starts_with("OTEL_") {
            assert_eq!(name, format!("FANFARE_{}", key.to_uppercase()));
        }
        assert_eq!(flag, format!("--{}", key.replace('_', "-")));
    }
    let with_default = all.iter().filter(|setting| !setting["default"].is_null()).count();
    let expected = DEFAULTS.iter().filter(|(_, default)| *default != "null").count();
    assert_eq!(with_default, expected);
}

fn settings(cli: &Cli) -> Vec<Value> {
    let ended = cli.run(&["config", "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// A text that is invalid for every setting.
const NONSENSE: &str = "=no\u{1}[sense";

#[test]
fn every_setting_refuses_invalid_values_from_every_source() {
    let cli = Cli::new();
    cli.file("value", NONSENSE);
    for setting in settings(&cli) {
        let [name, flag, key] = ["name", "flag", "key"].map(|it| setting[it].as_str().unwrap());
        // A connection string is checked when it is used.
        let wrong = if key == "database_url" { "nonsense" } else { NONSENSE };
        cli.file("value", wrong);
        let by_flag = cli.run(&["config", &format!("{flag}={wrong}")]);
        let by_variable = cli.run_with(&[(name, wrong)], &["config"]);
        let by_file = cli.run_with(&[(&format!("{name}_FILE"), "value")], &["config"]);
        let toml = cli.file("fanfare.toml", &format!("{key} = {}\n", serde_json::json!(wrong)));
        let by_toml = cli.run(&["config"]);
        std::fs::remove_file(toml).unwrap();
        for (ended, source) in [
            (by_flag, format!("(from the flag {flag})")),
            (by_variable, "(from the environment)".to_owned()),
            (by_file, "(from the file value)".to_owned()),
            (by_toml, "(from the file fanfare.toml)".to_owned()),
        ] {
            let message = ended.failed_with(2);
            assert!(message.starts_with(&format!("{name} is ")), "{message}");
            assert!(message.contains(&source) && message.contains("; give "), "{message}");
        }
    }
}

#[test]
fn empty_variable_counts_as_not_set() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "timeout = \"9s\"\n");
    let variables = [
        ("FANFARE_TIMEOUT", ""),
        ("FANFARE_RETRY_FIRST", ""),
        ("FANFARE_RETRY_FIRST_FILE", ""),
        ("FANFARE_DATABASE_URL", ""),
        ("FANFARE_CONFIG", ""),
    ];
    let ended = cli.run_with(&variables, &["config", "--json"]);
    assert_eq!(setting(&ended, "FANFARE_TIMEOUT"), ("9s".into(), "file fanfare.toml".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_RETRY_FIRST"), ("5s".into(), "default".to_owned()));
    assert_eq!(setting(&ended, "FANFARE_DATABASE_URL"), (Value::Null, "not set".to_owned()));
    // An empty flag, or an empty value in a file, is not ignored.
    let ended = cli.run(&["config", "--timeout", ""]);
    assert!(ended.failed_with(2).starts_with("FANFARE_TIMEOUT is \"\" (from the flag --timeout)"));
    cli.file("fanfare.toml", "timeout = \"\"\n");
    assert!(cli.run(&["config"]).failed_with(2).contains("(from the file fanfare.toml)"));
}

#[test]
fn value_is_read_from_the_file_that_a_variable_names() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "database_url = \"postgres://db/toml\"\n");
    cli.file("secret", "postgres://db/file\r\n");
    let file = ("FANFARE_DATABASE_URL_FILE", "secret");
    let both = [file, ("FANFARE_DATABASE_URL", "postgres://db/variable")];
    let name = "FANFARE_DATABASE_URL";
    let ended = cli.run_with(&[file], &["config", "--json"]);
    assert_eq!(setting(&ended, name), ("postgres://db/file".into(), "file secret".to_owned()));
    let ended = cli.run_with(&both, &["config", "--json"]);
    assert_eq!(setting(&ended, name).0, "postgres://db/variable");
    let ended = cli.run_with(&[("FANFARE_DATABASE_URL_FILE", "missing")], &["config"]);
    let message = ended.failed_with(2);
    assert!(message.contains("failed to read missing, which FANFARE_DATABASE_URL_FILE names"));
}

#[test]
fn missing_setting_is_reported_with_all_three_names() {
    let message = Cli::new().run(&["webhooks", "list"]).failed_with(2).to_owned();
    for part in [
        "FANFARE_DATABASE_URL is not set",
        "--database-url",
        "database_url = ",
        "a PostgreSQL URL such as postgres://",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn settings_file_can_be_chosen() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "timeout = \"1s\"\n");
    let other = cli.file("other.toml", "timeout = \"9s\"\n");
    let path = other.to_str().unwrap();
    for ended in [
        cli.run(&["--config", path, "config", "--json"]),
        cli.run(&["config", "--json", "--config", path]),
        cli.run_with(&[("FANFARE_CONFIG", path)], &["config", "--json"]),
    ] {
        assert_eq!(setting(&ended, "FANFARE_TIMEOUT").0, "9s");
    }
    let ended = cli.run(&["--config", "missing.toml", "config"]);
    assert!(ended.failed_with(2).contains("missing.toml"));
}

#[test]
fn secrets_are_masked_wherever_they_come_from() {
    let cli = Cli::new();
    cli.file("fanfare.toml", "database_url = \"postgres://anna:hidden@db/fanfare\"\n");
    let key = format!("k1:{}=", "A".repeat(43));
    let variables = [("FANFARE_SECRET_KEYS", key.as_str())];
    for arguments in [&["config"][..], &["config", "--json"]] {
        let mut all = arguments.to_vec();
        all.extend(["--amqp-url", "amqp://anna:hidden@mq/vhost"]);
        let ended = cli.run_with(&variables, &all);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert!(ended.stdout.contains("postgres://anna:***@db/fanfare"), "{}", ended.stdout);
        assert!(ended.stdout.contains("amqp://anna:***@mq/vhost"), "{}", ended.stdout);
        for secret in ["hidden", "AAAA"] {
            assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
        }
    }
}

#[test]
fn invalid_secret_is_not_printed() {
    let cli = Cli::new();
    for (name, value) in [
        ("FANFARE_SECRET_KEYS", "k:hidden"),
        ("FANFARE_AMQP_URL", "http://anna:hidden@mq"),
        ("FANFARE_DATABASE_URL", "mysql://anna:hidden@db"),
        ("FANFARE_OTLP_ENDPOINT", "ftp://anna:hidden@otel"),
        ("FANFARE_OIDC_CLIENT_SECRET", "hidden\u{1}"),
    ] {
        let ended = cli.run_with(&[(name, value)], &["config"]);
        let message = ended.failed_with(2);
        assert!(
            message.starts_with(&format!("{name} is not usable (from the environment); give "))
        );
        assert!(!message.contains("hidden"), "{message}");
    }
    cli.file("fanfare.toml", "log = \"info\"\nsecret_keys = k:hidden\n");
    let ended = cli.run(&["config"]);
    let message = ended.failed_with(2);
    assert!(message.contains("line 2 ") && !message.contains("hidden"), "{message}");
}

#[test]
fn invalid_value_error_names_the_setting_its_source_and_the_form() {
    let cli = Cli::new();
    let ended = cli.run_with(&[("FANFARE_RETRY_ATTEMPTS", "many")], &["config"]);
    assert_eq!(
        ended.failed_with(2),
        "FANFARE_RETRY_ATTEMPTS is \"many\" (from the environment); give a whole number, at least 1"
    );
    let mask = "connection-strings,people:$.Name";
    let ended = cli.run_with(&[("FANFARE_MASK", mask)], &["config"]);
    let message = ended.failed_with(2);
    for part in ["FANFARE_MASK", "there is no filter \"people\"", "from the environment"] {
        assert!(message.contains(part), "{message}");
    }
    cli.file("fanfare.toml", "retry_atempts = 3\n");
    let message = cli.run(&["config"]).failed_with(2).to_owned();
    assert!(message.contains("fanfare.toml") && message.contains("retry_attempts"), "{message}");
    cli.file("fanfare.toml", "log_format = \"xml\"\n");
    assert!(cli.run(&["config"]).failed_with(2).contains("from the file fanfare.toml"));
}

#[test]
fn config_command_creates_no_key() {
    let cli = Cli::new();
    let ended = cli.run(&["config", "--json"]);
    let (value, from) = setting(&ended, "FANFARE_SECRET_KEYS");
    assert_eq!(value, Value::Null);
    assert!(from.contains(".local/state/fanfare/secret-keys"), "{from}");
    assert!(!cli.path().join(".local").exists());
}
