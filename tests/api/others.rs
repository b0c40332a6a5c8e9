//! An administrator and the webhooks of other users.

use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use super::{Api, QUIET, REGISTRATIONS, User, id, of};

const MASK: &str = "********";

async fn one(user: &User<'_>, webhook: &str) -> Value {
    let answer = user.get(&of(webhook)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn secrets_and_header_values_are_shown_to_their_owner_only() {
    let api = Api::start().await;
    let (anna, root) = (api.user("anna", &[]).await, api.user("root", &["--admin"]).await);
    let headers = json!({ "X-Key": "anna-only", "Authorization": "Bearer anna-only" });
    let made = anna.post(&json!({ "WebHookUri": QUIET, "Headers": headers })).await.json();
    let (webhook, secret) = (id(&made).to_owned(), made["Secret"].as_str().unwrap().to_owned());
    let own =
        root.post(&json!({ "WebHookUri": QUIET, "Headers": { "X-Key": "mine" } })).await.json();

    for query in ["?user=all", "?user=anna"] {
        let answer = root.get(&format!("{REGISTRATIONS}{query}")).await;
        assert!(!answer.body.contains("anna-only") && !answer.body.contains(&secret), "{answer:?}");
        let listed = answer.json()[0].clone();
        assert_eq!((&listed["Id"], &listed["Secret"]), (&json!(webhook), &Value::Null));
        assert_eq!(listed["Headers"], json!({ "X-Key": MASK, "Authorization": MASK }));
    }
    let shown = one(&root, &webhook).await;
    assert_eq!(shown["Secret"], Value::Null);
    assert_eq!(shown["Headers"], json!({ "X-Key": MASK, "Authorization": MASK }));
    // An administrator's own webhooks are shown with all their values.
    assert_eq!(one(&root, id(&own)).await, own);
    let all = root.get(&format!("{REGISTRATIONS}?user=all")).await.json();
    assert_eq!((&all[1]["Secret"], &all[1]["Headers"]), (&own["Secret"], &own["Headers"]));
    assert_eq!(one(&anna, &webhook).await, made);
}

#[tokio::test]
async fn administrator_who_puts_back_a_masked_webhook_changes_no_secret_or_header() {
    let api = Api::start().await;
    let (anna, root) = (api.user("anna", &[]).await, api.user("root", &["--admin"]).await);
    let headers = json!({ "X-Key": "anna-only", "X-Other": "1" });
    let made = anna.post(&json!({ "WebHookUri": QUIET, "Headers": headers })).await.json();
    let webhook = id(&made);
    let read = one(&root, webhook).await;
    root.put(webhook, &read).await.is(200, None);
    assert_eq!(one(&anna, webhook).await, made);

    // A new address is verified with the stored values.
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| {
        let echo = request.path.split("echo=").nth(1).unwrap_or_default().to_owned();
        Reply::text(200, echo)
    });
    let mut changed = read.clone();
    changed["WebHookUri"] = json!(receiver.url("/moved"));
    changed["Headers"] = json!({ "x-key": MASK, "X-New": "2" });
    root.put(webhook, &changed).await.is(200, None);
    let asked = receiver.requests().remove(0);
    assert_eq!((asked.header("x-key"), asked.header("x-new")), (Some("anna-only"), Some("2")));
    let now = one(&anna, webhook).await;
    assert_eq!(now["Headers"], json!({ "x-key": "anna-only", "X-New": "2" }));
    assert_eq!(now["Secret"], made["Secret"]);

    // For the owner, the mask is a value like any other.
    let mut literal = now.clone();
    literal["Headers"] = json!({ "x-key": MASK });
    anna.put(webhook, &literal).await.is(200, None);
    assert_eq!(one(&anna, webhook).await["Headers"], json!({ "x-key": MASK }));
}
