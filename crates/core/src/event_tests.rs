//! Which events are accepted, which are refused, and for which reason.

use super::*;
use serde_json::{Value, json};

fn upload() -> Value {
    json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "reports.upload",
        "time": "2026-11-23T10:00:00Z", "subject": "categories/c1/reports/r1",
        "accessrevision": 412, "data": { "Id": "r1", "Name": null, "Z": 1.0, "A": [] }
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut event = upload();
    event[name] = value;
    event
}

fn without(name: &str) -> Value {
    let mut event = upload();
    event.as_object_mut().unwrap().remove(name);
    event
}

fn event(value: &Value) -> Event {
    let mut published = parse(value.to_string().as_bytes(), None, &MaskPolicy::default()).unwrap();
    match published.entries.remove(0) {
        Entry::Event(event) => *event,
        other => panic!("expected an event, got {other:?}"),
    }
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, reason: Reason) {
    let reject = parse(body.as_ref(), None, &MaskPolicy::default())
        .expect_err("the event should be refused");
    assert_eq!(reject.reason, reason, "{}", reject.detail);
    assert!(!reject.detail.is_empty());
}

#[test]
fn an_event_becomes_a_flat_notification() {
    let event = event(&upload());
    let expected =
        r#"{"Action":"reports","UserAction":"upload","Id":"r1","Name":null,"Z":1.0,"A":[]}"#;
    assert_eq!(event.notification, expected);
    assert_eq!(event.access_revision, Some(412));
    assert_eq!(event.filter, Filter::Reports);
}

#[test]
fn empty_data_gives_a_notification_of_two_keys() {
    let notification = event(&with("data", json!({}))).notification;
    assert_eq!(notification, r#"{"Action":"reports","UserAction":"upload"}"#);
}

#[test]
fn types_are_compared_without_case() {
    let event = event(&with("type", json!("REPORTS.Upload")));
    assert_eq!((event.filter, event.action.as_str()), (Filter::Reports, "Upload"));
    assert!(event.notification.starts_with(r#"{"Action":"reports","UserAction":"Upload","#));
}

#[test]
fn each_malformed_event_has_its_reason() {
    refused("{", Reason::NotJson);
    refused([0xff, 0xfe], Reason::NotJson);
    refused("", Reason::NotJson);
    refused("17", Reason::NotCloudEvents);
    refused("{}", Reason::MissingAttribute);
    refused(without("specversion").to_string(), Reason::NotCloudEvents);
    refused(with("specversion", json!("0.3")).to_string(), Reason::NotCloudEvents);
    refused(with("id", json!(5)).to_string(), Reason::NotCloudEvents);
    refused(with("id", json!("a\u{0}b")).to_string(), Reason::NotCloudEvents);
    for name in ["id", "source", "type", "subject"] {
        refused(without(name).to_string(), Reason::MissingAttribute);
        refused(with(name, json!("")).to_string(), Reason::MissingAttribute);
    }
    refused(with("type", json!("dashboards.edit")).to_string(), Reason::UnknownFilter);
    for text in ["reports", "reports.", ".edit", "reports.a.b", "reports.a b"] {
        refused(with("type", json!(text)).to_string(), Reason::BadType);
    }
    for text in ["reports/r1", "categories//reports/r1", "categories/c1/reports/", "nonsense"] {
        refused(with("subject", json!(text)).to_string(), Reason::BadSubject);
    }
    refused(with("subject", json!("tasks/t1")).to_string(), Reason::SubjectMismatch);
    refused(without("data").to_string(), Reason::BadData);
    refused(with("data", json!([1])).to_string(), Reason::BadData);
    refused(with("data", json!({ "Action": 1 })).to_string(), Reason::ReservedKey);
    refused(with("data", json!({ "UserAction": null })).to_string(), Reason::ReservedKey);
}

#[test]
fn a_reserved_key_that_is_written_with_an_escape_is_refused() {
    let body = upload().to_string().replace("\"Name\"", "\"\\u0041ction\"");
    refused(body, Reason::ReservedKey);
}

#[test]
fn sizes_and_counts_at_the_limit_are_accepted_and_one_more_is_refused() {
    let room = MAX_MESSAGE - with("data", json!({ "x": "" })).to_string().len();
    assert!(
        parse(
            with("data", json!({ "x": "a".repeat(room) })).to_string().as_bytes(),
            None,
            &MaskPolicy::default()
        )
        .is_ok()
    );
    refused(with("data", json!({ "x": "a".repeat(room + 1) })).to_string(), Reason::TooLarge);
    assert!(
        parse(
            Value::from(vec![json!(1); MAX_BATCH]).to_string().as_bytes(),
            None,
            &MaskPolicy::default()
        )
        .is_ok()
    );
    refused(Value::from(vec![json!(1); MAX_BATCH + 1]).to_string(), Reason::TooLarge);
    for name in ["id", "source", "type", "subject"] {
        let of = |length: usize| {
            let mut value = upload()[name].as_str().unwrap().to_owned();
            value.push_str(&"a".repeat(length - value.len()));
            with(name, json!(value))
        };
        // An action has a limit of its own.
        let longest = parse(of(MAX_ATTRIBUTE).to_string().as_bytes(), None, &MaskPolicy::default());
        assert!(longest.is_ok_and(|it| it.entries.len() == 1) || name == "type", "{name}");
        refused(of(MAX_ATTRIBUTE + 1).to_string(), Reason::TooLarge);
        // Bytes count, not characters.
        refused(with(name, json!("ä".repeat(MAX_ATTRIBUTE / 2 + 1))).to_string(), Reason::TooLarge);
    }
}

#[test]
fn a_bad_event_in_a_batch_does_not_reject_the_others() {
    let body = format!("[{}, {{ \"id\": 1 }}, {}]", upload(), with("id", json!("2")));
    let published = parse(body.as_bytes(), None, &MaskPolicy::default()).unwrap();
    assert!(published.batch);
    assert!(matches!(&published.entries[0], Entry::Event(_)));
    assert!(matches!(&published.entries[1], Entry::Rejected { raw, .. } if raw == "{ \"id\": 1 }"));
    assert!(matches!(&published.entries[2], Entry::Event(event) if event.id == "2"));
}

#[test]
fn the_trace_context_comes_from_the_event_or_the_message() {
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let traced = |value: &Value| match &parse(
        value.to_string().as_bytes(),
        Some(header),
        &MaskPolicy::default(),
    )
    .unwrap()
    .entries[0]
    {
        Entry::Event(event) => event.traceparent.clone(),
        other => panic!("expected an event, got {other:?}"),
    };
    assert_eq!(traced(&upload()).as_deref(), Some(header));
    assert_eq!(traced(&with("traceparent", json!(own))).as_deref(), Some(own));
    // An invalid attribute does not hide a valid header.
    let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
    for bad in ["x\u{df}", zeros.as_str(), &own.to_uppercase(), &own.replacen("00", "ff", 1)] {
        assert_eq!(traced(&with("traceparent", json!(bad))).as_deref(), Some(header), "{bad}");
    }
}

#[test]
fn a_revision_means_the_same_as_a_number_or_as_its_text() {
    let with_revision = |text: &str| {
        upload()
            .to_string()
            .replace("\"accessrevision\":412", &format!("\"accessrevision\":{text}"))
    };
    let revision = |text: &str| {
        let published = parse(with_revision(text).as_bytes(), None, &MaskPolicy::default());
        match published.unwrap().entries.remove(0) {
            Entry::Event(event) => event.access_revision,
            other => panic!("expected an event, got {other:?}"),
        }
    };
    for text in ["412", "412.0", "4.12e2", "\"412\""] {
        assert_eq!(revision(text), Some(412), "{text}");
    }
    assert_eq!(revision("9007199254740993.0"), Some(9_007_199_254_740_993));
    assert_eq!(revision("\"9223372036854775807\""), Some(i64::MAX));
    assert_eq!((revision("\"0\""), revision("null")), (Some(0), None));
    for text in [
        "-1",
        "412.5",
        "9223372036854775808",
        "1e19",
        "true",
        "[412]",
        "\"\"",
        "\"x\"",
        "\"-1\"",
        "\"+1\"",
        "\"0412\"",
        "\" 412\"",
        "\"412.0\"",
        "\"9223372036854775808\"",
    ] {
        refused(with_revision(text), Reason::NotCloudEvents);
    }
}

#[test]
fn a_directory_document_takes_the_same_revisions() {
    let document = |revision: &str| -> Result<i64, Reject> {
        let body = format!(
            r#"{{"type":"directory.user","accessrevision":{revision},"data":{{"name":"anna"}}}}"#
        );
        match parse(body.as_bytes(), None, &MaskPolicy::default())?.entries.remove(0) {
            Entry::Directory(document) => Ok(document.revision),
            other => panic!("expected a document, got {other:?}"),
        }
    };
    for text in ["7", "7.0", "\"7\""] {
        assert_eq!(document(text), Ok(7), "{text}");
    }
    assert_eq!(document("null").unwrap_err().reason, Reason::MissingAttribute);
    assert_eq!(document("\"7.5\"").unwrap_err().reason, Reason::NotCloudEvents);
}

#[track_caller]
fn detail(body: impl AsRef<[u8]>, reason: Reason) -> String {
    refused(&body, reason);
    parse(body.as_ref(), None, &MaskPolicy::default()).unwrap_err().detail
}

#[test]
fn an_attribute_that_differs_from_a_known_one_by_case_is_refused_with_its_name() {
    for name in [
        "accessRevision",
        "Type",
        "ID",
        "Source",
        "Subject",
        "SpecVersion",
        "Time",
        "TraceParent",
        "dataContentType",
        "Data",
        "Data_Base64",
    ] {
        let detail = detail(with(name, json!(null)).to_string(), Reason::NotCloudEvents);
        assert!(detail.contains(name), "{detail}");
    }
    event(&with("comTenant", json!("an extension may have any name")));
    let document =
        r#"{"type":"directory.user","accessrevision":7,"AccessRevision":9,"data":{"name":"anna"}}"#;
    assert!(detail(document, Reason::NotCloudEvents).contains("AccessRevision"));
    let twice = upload().to_string().replacen('{', r#"{"accessrevision":9,"#, 1);
    assert!(detail(twice, Reason::NotCloudEvents).contains("accessrevision"));
}

#[test]
fn an_optional_attribute_in_a_bad_form_never_costs_the_event() {
    let time = |value: Value| event(&with("time", value)).time.map(|time| time.to_rfc3339());
    let expected = "2026-11-23T10:00:00.123400+00:00";
    assert_eq!(time(json!("2026-11-23T10:00:00.1234")).as_deref(), Some(expected));
    assert_eq!(time(json!("2026-11-23T11:00:00.1234+01:00")).as_deref(), Some(expected));
    assert_eq!(time(json!("2026-11-23t10:00:00.1234z")).as_deref(), Some(expected));
    let first = "0001-01-01T00:00:00+00:00";
    assert_eq!(time(json!("0001-01-01T00:00:00")).as_deref(), Some(first));
    for bad in [
        json!("yesterday"),
        json!(""),
        json!(1_795_000_000),
        json!("2026-11-23"),
        json!(["x"]),
        json!("2026-13-23T10:00:00Z"),
        json!("2026-11-23T10:00:00Z\n"),
        json!("10:00:00"),
        json!("9999-12-31T23:59:59-01:00"),
        json!("+12026-11-23T10:00:00"),
    ] {
        assert_eq!(time(bad.clone()), None, "{bad}");
    }
    for bad in [json!(7), json!("00-0-0-00"), json!("a\u{0}b"), json!({})] {
        assert_eq!(event(&with("traceparent", bad)).traceparent, None);
    }
}

#[test]
fn data_that_is_not_an_object_is_refused_with_advice() {
    let other = |name: &str, value: Value| {
        let mut event = without("data");
        event[name] = value;
        detail(event.to_string(), Reason::BadData)
    };
    assert!(other("data_base64", json!("e30=")).contains("data_base64"));
    assert!(other("data", json!("{\"Id\":\"r1\"}")).contains("a text that holds JSON"));
    assert!(other("data", json!([1])).contains("an array"));
    assert!(other("data", json!("r1")).contains("must be a JSON object"));
    assert!(detail(without("data").to_string(), Reason::BadData).contains("missing"));
}

#[test]
fn waited_ignores_times_that_are_years_off_and_is_at_most_a_week() {
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let since = |before: TimeDelta| waited(Some(now - before), now);
    assert_eq!(since(TimeDelta::seconds(5)), Some(Duration::from_secs(5)));
    assert_eq!(since(TimeDelta::seconds(-5)), Some(Duration::ZERO));
    assert_eq!(since(TimeDelta::days(300)), Some(Duration::from_hours(7 * 24)));
    assert_eq!(since(TimeDelta::days(-300)), Some(Duration::ZERO));
    assert_eq!((since(TimeDelta::days(4000)), since(TimeDelta::days(-4000))), (None, None));
    assert_eq!(waited(None, now), None);
    for year in [1, 9999] {
        let time =
            chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(chrono::NaiveTime::MIN);
        assert_eq!(waited(Some(time.and_utc()), now), None);
    }
}
