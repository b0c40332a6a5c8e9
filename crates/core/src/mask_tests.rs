//! Which values are masked, and which stay unchanged.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn masked(policy: &str, filter: Filter, data: &str) -> String {
    MaskPolicy::parse(policy).unwrap().apply(filter, data).into_owned()
}

/// The connection string of a connection event after masking.
fn text(text: &str) -> String {
    let data = json!({ "ConnectionString": text }).to_string();
    let masked = MaskPolicy::default().apply(Filter::Connections, &data).into_owned();
    let masked: Value = serde_json::from_str(&masked).unwrap();
    masked["ConnectionString"].as_str().unwrap().to_owned()
}

#[test]
fn values_of_password_like_keys_are_masked() {
    for (given, expected) in [
        (
            "Server=db;User ID=sa;Password=hidden;Encrypt=True",
            "Server=db;User ID=sa;Password=***;Encrypt=True",
        ),
        ("Server=db; PWD = hidden ;UID=sa", "Server=db; PWD = ***;UID=sa"),
        ("password=\"hid;d\"\"en\";Server=db", "password=***;Server=db"),
        ("Password='hid;d''en';Server=db", "Password=***;Server=db"),
        ("Driver={SQL Server};Pwd={hid;d}}en};Uid=sa", "Driver={SQL Server};Pwd=***;Uid=sa"),
        ("Password=hid=den==;x=1", "Password=***;x=1"),
        ("Password=;x=1", "Password=***;x=1"),
        ("Password=hid den, hid&den?;x=1", "Password=***;x=1"),
        ("Password=\"hidden", "Password=***"),
        ("Password={hidden;x=1", "Password=***;x=1"),
        ("Password='hidden' ;x=1", "Password=***;x=1"),
        (
            "Server=tcp:db,1433;User=a@b;Password=hid@den:x",
            "Server=tcp:db,1433;User=a@b;Password=***",
        ),
        ("Server=tcp://db:1433;Password=hid@den", "Server=tcp://db:1433;Password=***"),
        (
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hidden==",
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=***",
        ),
        (
            "Endpoint=sb://ns.example/;SharedAccessKeyName=root;SharedAccessKey=hidden=",
            "Endpoint=sb://ns.example/;SharedAccessKeyName=root;SharedAccessKey=***",
        ),
        (
            "Provider=x;Jet OLEDB:Database Password=hidden",
            "Provider=x;Jet OLEDB:Database Password=***",
        ),
        (
            "Provider=x;Extended Properties=\"HDR=YES;Password=hidden;A=\"\"b\"\"\";B=c",
            "Provider=x;Extended Properties=\"HDR=YES;Password=***;A=\"\"b\"\"\";B=c",
        ),
        (
            "metadata=res://*/m;provider connection string='data source=db;password=hidden'",
            "metadata=res://*/m;provider connection string='data source=db;password=***'",
        ),
    ] {
        assert_eq!(text(given), expected, "{given}");
    }
}

#[test]
fn passwords_in_libpq_strings_cache_strings_and_urls_are_masked() {
    for (given, expected) in [
        ("host=db password=hidden dbname=x", "host=db password=*** dbname=x"),
        ("password=hidden host=db user=a", "password=*** host=db user=a"),
        ("host=db password='hid; \\'den' dbname=x", "host=db password=*** dbname=x"),
        ("host=db password = hid\\ den dbname=x", "host=db password = *** dbname=x"),
        ("Server=db\nPassword=hidden\nUser=a", "Server=db\nPassword=***\nUser=a"),
        ("cache:6379,password=hidden,ssl=true", "cache:6379,password=***,ssl=true"),
        ("cache:6379,ssl=true, password=hidden", "cache:6379,ssl=true, password=***"),
        ("postgres://anna:hidden@db:5432/x", "postgres://anna:***@db:5432/x"),
        ("postgres://anna:hid@den@db/x", "postgres://anna:***@db/x"),
        ("postgres://anna:hid/den@db/x", "postgres://anna:***@db/x"),
        ("amqp://anna:hid;den@mq", "amqp://anna:***@mq"),
        ("redis://:hidden@cache", "redis://:***@cache"),
        ("mongodb://anna:hidden@a:1,b:2/?x=y", "mongodb://anna:***@a:1,b:2/?x=y"),
        (
            "Data Source=https://anna:hidden@h/;User ID=a@b",
            "Data Source=https://anna:***@h/;User ID=a@b",
        ),
        (
            "jdbc:mysql://db/x?user=a&password=hidden&ssl=1",
            "jdbc:mysql://db/x?user=a&password=***&ssl=1",
        ),
        (
            "jdbc:sqlserver://db:1433;user=a;password=hid@den",
            "jdbc:sqlserver://db:1433;user=a;password=***",
        ),
        ("jdbc:oracle:thin:scott/hidden@//db:1521/x", "jdbc:oracle:thin:scott/***@//db:1521/x"),
        ("Url=https://h/?sig=hidden&a=b;User ID=sa", "Url=https://h/?sig=***&a=b;User ID=sa"),
        (r#"{"host":"db","password":"hidden"}"#, r#"{"host":"db","password":"***"}"#),
    ] {
        assert_eq!(text(given), expected, "{given}");
    }
}

#[test]
fn a_secret_that_begins_within_another_one_is_masked_to_its_own_end() {
    for (given, expected) in [
        ("https://h/?sig=a;Pwd='it''s hidden';x=1", "https://h/?sig=***;x=1"),
        ("https://h/?sig=a;Access Key=hidden", "https://h/?sig=***"),
        ("https://h/?sig=a;b=c&d=e", "https://h/?sig=***&d=e"),
        ("https://h/?sig=a;Pwd={b&hidden};x=1", "https://h/?sig=***;x=1"),
    ] {
        assert_eq!(text(given), expected);
    }
}

#[test]
fn names_of_secrets_are_matched_without_case_and_separators() {
    for name in [
        "Password",
        "PASSWD",
        "pwd",
        "Pass",
        "PassPhrase",
        "Password2",
        "Client Secret",
        "client_secret",
        "ClientSecret",
        "Access Key",
        "AccessToken",
        "Api-Key",
        "SharedSecretValue",
        "Private Key",
        "SAS",
        "DB_PASS",
        "ssl.key.password",
        "Shared Access Signature",
        "PasswordHash",
        "Secrets",
    ] {
        assert_eq!(text(&format!("A=b;{name}=hidden;C=d")), format!("A=b;{name}=***;C=d"));
        let data = json!({ name: "hidden" }).to_string();
        let expected = json!({ name: "***" }).to_string();
        assert_eq!(masked("connection-strings", Filter::Connections, &data), expected);
    }
}

#[test]
fn texts_without_a_secret_stay_unchanged() {
    for given in [
        "User ID=sa;UID=sa;Username=sa;Persist Security Info=False;SharedAccessKeyName=root;Token Type=x",
        "System.Data, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089",
        "http://[::1]:80/@x",
        "https://example.org:8080/a@b",
        "anna@example.org",
        "a=b",
        "{ not JSON",
        "",
        "mongodb://a:1,b:2/x@y",
        "Data Source='it''s';X={a}}b}",
    ] {
        assert_eq!(text(given), given);
    }
}

#[test]
fn members_with_the_name_of_a_secret_are_masked_whatever_their_type() {
    let data = r#"{"Password":17,"Token":null,"Secret":true,"PIN":["a",1.5],"Credentials":{"UserName":"anna","Value":"x"},"pass\u0077ord":"y"}"#;
    let expected = r#"{"Password":"***","Token":null,"Secret":true,"PIN":["***","***"],"Credentials":{"UserName":"anna","Value":"***"},"pass\u0077ord":"***"}"#;
    assert_eq!(masked("connection-strings", Filter::Connections, data), expected);
}

#[test]
fn escaped_names_are_masked_and_other_bytes_stay_unchanged() {
    let data = r#"{ "B" : 1.50 , "a":"\u00e9\/", "a": [ 1e400, {"X": "Server=db;Pass\u0077ord=hid\ud800den"} ], "Z":"\ud800" }"#;
    let expected = r#"{ "B" : 1.50 , "a":"\u00e9\/", "a": [ 1e400, {"X": "Server=db;Password=***"} ], "Z":"\ud800" }"#;
    assert_eq!(masked("connection-strings", Filter::Connections, data), expected);
}

#[test]
fn connection_strings_are_masked_in_events_of_connections_only() {
    let data = r#"{"Password":"x","A":"Password=x"}"#;
    let policy = MaskPolicy::default();
    assert!(matches!(policy.apply(Filter::Reports, data), Cow::Borrowed(_)));
    assert!(matches!(MaskPolicy::off().apply(Filter::Connections, data), Cow::Borrowed(_)));
    assert!(matches!(policy.apply(Filter::Connections, r#"{"A":"b"}"#), Cow::Borrowed(_)));
}

#[test]
fn paths_select_values_of_any_type_and_of_duplicate_keys() {
    let data = r#"{"a":{"b":1,"b":[2]},"c":[{"b":3},{"b":{"b":4}}],"d e":"x","f'g":5}"#;
    for (path, expected) in [
        ("$.a.b", r#"{"a":{"b":"***","b":"***"},"c":[{"b":3},{"b":{"b":4}}],"d e":"x","f'g":5}"#),
        ("$['a']", r#"{"a":"***","c":[{"b":3},{"b":{"b":4}}],"d e":"x","f'g":5}"#),
        ("$.c[1].b", r#"{"a":{"b":1,"b":[2]},"c":[{"b":3},{"b":"***"}],"d e":"x","f'g":5}"#),
        ("$.c[*]", r#"{"a":{"b":1,"b":[2]},"c":["***","***"],"d e":"x","f'g":5}"#),
        ("$..b", r#"{"a":{"b":"***","b":"***"},"c":[{"b":"***"},{"b":"***"}],"d e":"x","f'g":5}"#),
        ("$..b.b", r#"{"a":{"b":1,"b":[2]},"c":[{"b":3},{"b":{"b":"***"}}],"d e":"x","f'g":5}"#),
        ("$..[0]", r#"{"a":{"b":1,"b":["***"]},"c":["***",{"b":{"b":4}}],"d e":"x","f'g":5}"#),
        (
            "$[\"d e\", 'f\\'g']",
            r#"{"a":{"b":1,"b":[2]},"c":[{"b":3},{"b":{"b":4}}],"d e":"***","f'g":"***"}"#,
        ),
        ("$.*", r#"{"a":"***","c":"***","d e":"***","f'g":"***"}"#),
        ("$.none", data),
        ("$.A", data),
    ] {
        assert_eq!(masked(&format!("tasks:{path}"), Filter::Tasks, data), expected, "{path}");
        assert_eq!(masked(&format!("tasks:{path}"), Filter::Alerts, data), data);
    }
}

#[test]
fn commas_in_brackets_do_not_separate_parts() {
    let policy = "connection-strings , Reports:$['a,]','b'] ,tasks:$.c";
    let data = r#"{"a,]":1,"b":2,"c":"Password=x"}"#;
    assert_eq!(
        masked(policy, Filter::Reports, data),
        r#"{"a,]":"***","b":"***","c":"Password=x"}"#
    );
    assert_eq!(masked(policy, Filter::Tasks, data), r#"{"a,]":1,"b":2,"c":"***"}"#);
    assert_eq!(masked(policy, Filter::Connections, data), r#"{"a,]":1,"b":2,"c":"Password=***"}"#);
}

#[test]
fn an_invalid_policy_is_refused_with_its_invalid_part() {
    for (policy, part) in [
        ("", "write off"),
        ("off,connection-strings", "off can't be combined"),
        ("passwords", "\"passwords\""),
        ("people:$.a", "\"people\"; the filters are reports"),
        ("reports:Owner", "must begin with $"),
        ("reports:$", "data as a whole"),
        ("reports:$.a-b", "expected . or [ at \"-b\""),
        ("reports:$.", "expected a name"),
        ("reports:$[-1]", "not supported"),
        ("reports:$[0:2]", "not supported"),
        ("reports:$[?@.a]", "not supported"),
        ("reports:$['a]", "not closed"),
        ("reports:$.[0]", "expected . or ["),
    ] {
        let error = MaskPolicy::parse(policy).unwrap_err().to_string();
        assert!(error.contains(part), "{policy}: {error}");
    }
    assert!(MaskPolicy::parse(&format!("reports:${}", ".a".repeat(64))).is_err());
}

/// Texts on which a quadratic algorithm would be slow, each almost as large as the largest message.
#[test]
fn masking_takes_linear_time_on_hostile_texts() {
    let started = std::time::Instant::now();
    for piece in [
        "a={",
        "a={}}",
        "a='",
        "a=''",
        "pwd={;",
        "pwd=\"\"",
        "x password=a ",
        "a://b:c/",
        "[",
        "\"a=b;",
        "pwd=a,",
        "a://?pwd=b;pwd='",
        "a://?pwd=;",
    ] {
        let long = piece.repeat(900_000 / piece.len());
        text(&long);
    }
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    masked("connections:$..a,connection-strings", Filter::Connections, &deep);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// Any JSON value of a few levels.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^=]{0,12}".prop_map(Value::from),
        "[a-h]{1,3}=[a-h;'\"{}=@:/ ]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-cA-C]{1,2}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A value in the syntax of one kind of connection string, and the separator of that kind.
fn spelled(secret: &str, style: usize) -> (String, &'static str) {
    match style {
        0 => (format!("\"{}\"", secret.replace('"', "\"\"")), ";"),
        1 => (format!("'{}'", secret.replace('\'', "''")), ";"),
        2 => (format!("{{{}}}", secret.replace('}', "}}")), ";"),
        3 => (secret.replace([';', '"', '\'', '{'], "_"), ";"),
        4 => (format!("'{}'", secret.replace('\\', "\\\\").replace('\'', "\\'")), " "),
        _ => (secret.replace(|c: char| !c.is_alphanumeric(), "_"), "&"),
    }
}

/// Whether two values are the same except for the text of strings.
fn same_structure(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_structure(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.keys().eq(other.keys())
                && one.values().zip(other.values()).all(|(a, b)| same_structure(a, b))
        }
        (Value::String(_), Value::String(_)) => true,
        (one, other) => one == other,
    }
}

proptest! {
    #[test]
    fn data_without_a_match_stays_unchanged(value in values()) {
        let data = serde_json::to_string_pretty(&json!({ "d": value })).unwrap();
        let policy = "reports:$.none,reports:$..none[0]";
        prop_assert_eq!(masked(policy, Filter::Reports, &data), data.clone());
        if !data.contains('@') {
            prop_assert_eq!(masked("connection-strings", Filter::Connections, &data), data);
        }
    }

    #[test]
    fn a_secret_is_masked_and_the_structure_is_kept(
        value in values(),
        secret in "S3C[ -~]{0,10}R3T",
        style in 0..6_usize,
        name in prop::sample::select(vec!["Password", "pwd", "client_secret", "AccountKey"]),
        before in prop::collection::vec(("[a-z]{4}", "[a-z0-9.]{1,6}"), 0..3),
        nested in any::<bool>(),
    ) {
        let (spelled, separator) = spelled(&secret, style);
        let mut pairs: Vec<String> = before.iter().map(|(k, v)| format!("{k}={v}")).collect();
        if separator == " " {
            pairs.insert(0, "host=db".to_owned());
        }
        pairs.extend([format!("{name}={spelled}"), "user=anna".to_owned()]);
        let mut string = pairs.join(separator);
        if separator == "&" {
            string = format!("jdbc:x://db/y?{string}");
        }
        if nested {
            string = format!("Provider=x;Inner=\"{}\"", string.replace('"', "\"\""));
        }
        let data = json!({ "v": value, "c": [string] });
        let out = masked("connection-strings", Filter::Connections, &data.to_string());
        let out: Value = serde_json::from_str(&out).unwrap();
        prop_assert!(same_structure(&data, &out));
        let text = out["c"][0].as_str().unwrap();
        prop_assert!(!text.contains("S3C") && !text.contains("R3T"), "{} became {}", string, text);
        prop_assert!(text.contains("anna"), "{} became {}", string, text);
    }

    #[test]
    fn a_path_leaves_valid_json(value in values()) {
        let data = json!({ "d": value }).to_string();
        let out = masked("alerts:$..a,alerts:$..[1]", Filter::Alerts, &data);
        prop_assert!(serde_json::from_str::<Value>(&out).is_ok());
    }
}
