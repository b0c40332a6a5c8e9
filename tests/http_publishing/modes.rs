//! The content modes, and what becomes of the events.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::{Publishing, accepted, problem};
use crate::world::{SOON, World, dead_events, event, publish_on, unique};

/// The notifications of a POST.
fn notifications(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["Notifications"].clone()
}

/// The attributes of a task's event, as headers of binary mode.
fn binary(id: &str) -> Vec<(&str, &str)> {
    vec![
        ("Content-Type", "application/json"),
        ("CE-SpecVersion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/tests"),
        ("ce-type", "tasks.execute"),
        ("ce-subject", "tasks/t1"),
    ]
}

#[tokio::test]
async fn each_mode_reaches_the_receiver_with_its_data() {
    let publishing = Publishing::start().await;
    let world = &publishing.world;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);

    accepted(&publishing.event(&event()).await, 1);
    receiver.wait_for(1, SOON).await;
    let (mut one, mut two) = (event(), event());
    (one["data"]["Id"], two["data"]["Id"]) = (json!("one"), json!("two"));
    accepted(&publishing.batch(&json!([one, two])).await, 2);
    receiver.wait_for(2, SOON).await;
    let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut headers = binary("Euro%20%E2%82%AC");
    headers.push(("traceparent", traced));
    accepted(&publishing.post(&headers, br#"{"Amount":1.50,"Id":"t1"}"#).await, 1);
    let requests = receiver.wait_for(3, SOON).await;

    let names = |body: &[u8]| {
        let all = notifications(body);
        let all = all.as_array().unwrap();
        all.iter().map(|one| one["Id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&requests[0].body), ["t1"]);
    assert_eq!(names(&requests[1].body), ["one", "two"]);
    let text = String::from_utf8(requests[2].body.to_vec()).unwrap();
    let expected = r#"{"Action":"tasks","UserAction":"execute","Amount":1.50,"Id":"t1"}"#;
    assert!(text.contains(expected), "{text}");
    let trace = requests[2].header("traceparent").unwrap();
    assert!(trace.contains("0af7651916cd43dd8448eb211c80319c"), "{trace}");
    let delivered = world.deliveries(&webhook, "delivered", 3).await;
    assert_eq!(delivered[0]["events"], json!(["Euro €"]));
}

#[tokio::test]
async fn message_in_the_broker_is_the_request_byte_for_byte() {
    let publishing = Publishing::start().await;
    let mut router = publishing.world.start("router").await;
    router.terminate();
    router.wait_exit(SOON).await;
    let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let structured = "\u{feff} {\"specversion\": \"1.0\", \"id\":\"1\",\"source\":\"/s\",\
                      \"type\":\"Tasks.Execute\",\"subject\":\"tasks/t1\",\"data\":{\"n\":1.50}}\n";
    let kind = ("Content-Type", "application/cloudevents+json; charset=utf-8");
    let headers = [kind, ("traceparent", traced), ("tracestate", "x=y")];
    accepted(&publishing.post(&headers, structured.as_bytes()).await, 1);
    accepted(&publishing.post(&binary("%22a%22"), b" {\"n\": 1.50}").await, 1);

    let amqp = publishing.world.amqp().await;
    let messages = amqp.drain("fanfare.events").await.unwrap();
    let [first, second] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(first.body, structured.as_bytes());
    assert_eq!(first.routing_key, "Tasks.Execute");
    assert_eq!(first.header("traceparent").as_deref(), Some(traced));
    let kind = first.properties.content_type().as_ref().map(ToString::to_string);
    assert_eq!(kind.as_deref(), Some("application/cloudevents+json; charset=utf-8"));
    assert_eq!(*first.properties.delivery_mode(), Some(2));
    assert_eq!(second.body, &b" {\"n\": 1.50}"[..]);
    assert_eq!(second.routing_key, "tasks.execute");
    assert_eq!(second.header("cloudEvents:id").as_deref(), Some("\"a\""));
    assert_eq!(second.header("cloudEvents:specversion").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn same_event_over_http_and_amqp_is_delivered_once() {
    let publishing = Publishing::start().await;
    let world = &publishing.world;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let (one, last) = (event(), event());
    let amqp = world.amqp().await;
    for _ in 0..3 {
        accepted(&publishing.event(&one).await, 1);
        publish_on(&amqp, &one).await;
    }
    let id = one["id"].as_str().unwrap();
    accepted(&publishing.post(&binary(id), one["data"].to_string().as_bytes()).await, 1);
    accepted(&publishing.event(&last).await, 1);
    world.deliveries(&webhook, "delivered", 2).await;
    assert_eq!(receiver.count(), 2);
}

/// Names of HTTP headers have no case, so this attribute decides about access, whatever its case.
#[tokio::test]
async fn revision_in_a_header_of_any_case_counts() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "2s");
    let world = world.with("FANFARE_DIRECTORY_GAP_WAIT", "1s");
    let publishing = Publishing::on(world).await;
    publishing.world.directory_of_anna().await;
    let _router = publishing.world.start("router").await;
    let mut headers = binary("1");
    headers.push(("ce-accessRevision", "999"));
    accepted(&publishing.post(&headers, b"{}").await, 1);
    let letters = dead_events(&publishing.world.amqp().await, 1).await;
    assert_eq!(letters[0].header("x-fanfare-reason").as_deref(), Some("directory-behind"));
    // Twice is ambiguous, also if only the case differs.
    headers.push(("CE-ACCESSREVISION", "1"));
    let refused = problem(&publishing.post(&headers, b"{}").await, 400);
    assert_eq!(refused["reason"], "not-cloudevents");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("accessrevision") && detail.contains("more than once"), "{detail}");
}

#[tokio::test]
async fn directory_documents_are_applied_in_each_mode() {
    let publishing = Publishing::start().await;
    let world = &publishing.world;
    let receiver = Receiver::start().await;
    world.directory(&json!({ "accessrevision": 1, "users": [], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let headers = [("ce-type", "directory.role"), ("ce-accessrevision", "2")];
    let role = json!({ "name": "Readers",
                       "permissions": [{ "access": ["read"], "scope": "any-task" }] });
    accepted(&publishing.post(&headers, role.to_string().as_bytes()).await, 1);
    let user = json!({ "type": "directory.user", "accessrevision": 3,
                       "data": { "name": "anna", "roles": ["Readers"] } });
    accepted(&publishing.event(&user).await, 1);
    let mut event = event();
    event["accessrevision"] = json!(3);
    accepted(&publishing.event(&event).await, 1);
    world.deliveries(&webhook, "delivered", 1).await;
}

/// Access never fails open: the document may have taken rights away.
#[tokio::test]
async fn refused_directory_document_voids_what_it_names() {
    let publishing = Publishing::start().await;
    let world = &publishing.world;
    let receiver = Receiver::start().await;
    let grant = json!([{ "access": ["read"], "scope": "any-task" }]);
    let user = json!({ "name": "anna", "permissions": grant });
    world.directory(&json!({ "accessrevision": 1, "users": [user], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let bad = json!({ "type": "directory.user", "accessrevision": 2,
                      "data": { "name": "anna", "permissions": "none" } });
    let refused = problem(&publishing.event(&bad).await, 422);
    assert_eq!(refused["reason"], "bad-data");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("the permissions of the user anna count for nothing"), "{detail}");
    let letters = dead_events(&world.amqp().await, 1).await;
    assert_eq!(letters[0].body, bad.to_string().as_bytes());
    let mut event = event();
    event["accessrevision"] = json!(2);
    accepted(&publishing.event(&event).await, 1);
    let mended = json!({ "type": "directory.user", "accessrevision": 3,
                         "data": { "name": "anna", "permissions": grant } });
    accepted(&publishing.event(&mended).await, 1);
    event["accessrevision"] = json!(3);
    event["id"] = json!(unique());
    accepted(&publishing.event(&event).await, 1);
    let delivered = world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(delivered[0]["events"], json!([event["id"]]));
}
