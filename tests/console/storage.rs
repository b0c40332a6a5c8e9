//! What the database holds: for administrators, on a page, by the API and by a command.

use serde_json::Value;

use super::Console;
use crate::world::World;

#[tokio::test]
async fn administrators_see_sizes_and_others_do_not() {
    let world = World::new().await.with("FANFARE_DATABASE_DISK", "200GB");
    let console = Console::on(world).await;
    let mut anna = console.user("anna").await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let html = root.page("/storage").await;
    for text in
        ["Attempts", "Audit trail", "The disk has 200.0 GB", "known after the first whole day"]
    {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(html.contains(r#"<a href="/storage" aria-current="page">"#), "{html}");
    assert!(!anna.page("/webhooks").await.contains("/storage"));
    assert_eq!(anna.get("/storage").await.status, 404);
    assert_eq!(anna.get("/api/v1/storage").await.status, 403);
    let answer = root.get("/api/v1/storage").await;
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    let kinds = json["kinds"].as_array().unwrap();
    let names: Vec<&str> = kinds.iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["events", "attempts", "keys", "audit", "rest"]);
    let sum: i64 = kinds.iter().map(|kind| kind["bytes"].as_i64().unwrap()).sum();
    assert_eq!(json["bytes"], sum);
    assert_eq!((&json["disk"], &json["fullOn"]), (&200_000_000_000_i64.into(), &Value::Null));
}
