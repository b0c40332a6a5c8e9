//! Requests of the report server's clients that deviate from its documentation.

use serde_json::{Value, json};

use super::client::Answer;
use super::{Api, QUIET, REGISTRATIONS, failure, id, of};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[track_caller]
fn webhook(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn scalars_are_coerced_as_by_json_net() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    for (paused, expected) in [
        ("true", true),
        ("\"true\"", true),
        ("\"True\"", true),
        ("\"FALSE\"", false),
        ("1", true),
        ("0", false),
        ("2.5", true),
        ("null", false),
    ] {
        let body = format!(r#"{{"WebHookUri":"{QUIET}","IsPaused":{paused}}}"#);
        let created = webhook(&anna.send("POST", REGISTRATIONS, body.as_bytes()).await);
        assert_eq!(created["IsPaused"], expected, "{paused}");
    }
    let digits = "12345678901234567890123456789012";
    let body = format!(
        r#"{{"WebHookUri":"{QUIET}","Secret":{digits},"Description":5.0,"Headers":{{"X-N":1,"X-B":false}},
            "Properties":{{"n":1.5,"t":"1","b":false}},"Filters":["TASKS","reports.Delete","tasks","alerts"]}}"#
    );
    let created = webhook(&anna.send("POST", REGISTRATIONS, body.as_bytes()).await);
    assert_eq!(created["Secret"], digits);
    assert_eq!(created["Description"], "5.0");
    assert_eq!(created["Headers"], json!({ "X-N": "1", "X-B": "false" }));
    assert_eq!(created["Properties"], json!({ "n": 1.5, "t": "1", "b": false }));
    // They keep the order in which they were given.
    assert_eq!(created["Filters"], json!(["tasks", "reports.delete", "alerts"]));
    assert_eq!(anna.get(&of(id(&created))).await.json(), created);

    let body = format!(r#"{{"WebHookUri":"{QUIET}","Filters":["reports",1]}}"#);
    let answer = anna.send("POST", REGISTRATIONS, body.as_bytes()).await;
    answer.is(400, Some(&failure("The following filters are not valid: '1'.")));
}

#[tokio::test]
async fn filters_keep_the_position_of_everything() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    for (given, read) in [
        (json!(["tasks", "*", "reports"]), json!(["tasks", "*", "reports"])),
        (json!(["*", "*"]), json!(["*"])),
        (json!([]), json!(["*"])),
    ] {
        let created = anna.post(&json!({ "WebHookUri": QUIET, "Filters": given })).await.json();
        assert_eq!(created["Filters"], read);
        assert_eq!(anna.get(&of(id(&created))).await.json()["Filters"], read);
    }
}

#[tokio::test]
async fn form_body_registers_and_changes_a_webhook() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let uri = "WebHookUri=http%3A%2F%2F192.0.2.1%2Fhook%3Fnoecho";
    let form = format!(
        "{uri}&Secret=&IsPaused=1&description=a+b&Filters=tasks&Filters=Reports&Headers[X-A]=1\
         &Properties[key]=v&Unknown[0][x]=y"
    );
    let answer = anna.send_as(FORM, "POST", REGISTRATIONS, form.as_bytes()).await;
    let created = webhook(&answer);
    assert_eq!(created["WebHookUri"], QUIET);
    assert_eq!((&created["IsPaused"], &created["Description"]), (&json!(true), &json!("a b")));
    assert_eq!(created["Filters"], json!(["tasks", "reports"]));
    assert_eq!(created["Headers"], json!({ "X-A": "1" }));
    assert_eq!(created["Properties"], json!({ "key": "v" }));
    assert_eq!(created["Secret"].as_str().unwrap().len(), 32);

    let path = of(id(&created));
    let form = format!("{uri}&IsPaused=false&Filters[0]=alerts&Id={}", id(&created).to_uppercase());
    let kind = "application/x-www-form-urlencoded; charset=UTF-8";
    anna.send_as(kind, "PUT", &path, form.as_bytes()).await.is(200, None);
    let changed = anna.get(&path).await.json();
    assert_eq!((&changed["IsPaused"], &changed["Filters"]), (&json!(false), &json!(["alerts"])));
    assert_eq!(changed["Secret"], created["Secret"]);

    let answer = anna.send_as(FORM, "POST", REGISTRATIONS, b"IsPaused=maybe&Filters=tasks").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let refused = answer.json();
    let state = refused["ModelState"].as_object().unwrap();
    let members = ["webHook.WebHookUri", "webHook.IsPaused"];
    assert_eq!(state.keys().collect::<Vec<_>>(), members, "{refused}");
}

#[tokio::test]
async fn json_is_read_with_any_content_type_and_encoding() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let body = format!(r#"{{"WebHookUri":"{QUIET}","Description":"ä"}}"#);
    let utf16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&b"\xFF\xFE"[..], &utf16].concat();
    let relaxed = format!("{{WebHookUri:'{QUIET}', /* a */ 'Description':'ä',}}");
    for (kind, body) in [
        ("", body.as_bytes()),
        ("text/json", body.as_bytes()),
        ("text/plain", body.as_bytes()),
        ("application/json; charset=utf-8", body.as_bytes()),
        ("application/json; charset=\"UTF-16\"", &utf16),
        (JSON, &marked),
        (JSON, relaxed.as_bytes()),
        // The content type that `curl -d` sends by default.
        (FORM, format!(" {body}").as_bytes()),
    ] {
        let created = webhook(&anna.send_as(kind, "POST", REGISTRATIONS, body).await);
        assert_eq!((&created["WebHookUri"], &created["Description"]), (&json!(QUIET), &json!("ä")));
    }
    let joined = format!("{{WebHookUri:'{QUIET}',IsPaused:1 0}}");
    for refused in [&utf16, joined.as_bytes()] {
        let answer = anna.send_as(JSON, "POST", REGISTRATIONS, refused).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
}
