//! `fanfare webhooks import --from-server`.

use fanfare_testkit::process::Output;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::report_server::{Dialect, Kind, Listing};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::{Bridged, notified};
use crate::world::{SECRET, SOON};

impl Bridged {
    /// Imports from the report server.
    pub(super) async fn import(&self, more: &[&str], logins: Option<&str>) -> Output {
        let mut args = vec!["webhooks", "import", "--from-server", "--no-verify"];
        args.extend(logins.map(|_| ["--logins", "-"]).iter().flatten());
        args.extend(more);
        self.world.run(&args, logins).await
    }
}

async fn webhooks_come_from_the_report_server_with_their_owners_and_secrets(dialect: Dialect) {
    let bridged = Bridged::new(dialect).await;
    let (server, world) = (&bridged.server, &bridged.world);
    server.switch(|it| it.rate_limit = true);
    let (anna, ben) = (server.add_user("Anna"), server.add_user("Ben"));
    server.set_members(&server.role("Report Reader"), &[&anna, &ben]);
    let _router = world.start("router").await;
    let _worker = world.start("worker").await;
    let _bridge = bridged.start().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(echoing);
    let members = json!({
        "Secret": SECRET, "Description": "sales", "Filters": ["reports"],
        "Headers": { "X-Key": "1" }, "Properties": { "Team": "a" },
    });
    let of_anna = server.add_webhook(&anna, &receiver.url("/anna"), &members);
    let paused = server.add_webhook(&ben, &receiver.url("/ben"), &json!({ "IsPaused": true }));
    let logins = "{\"User\":\"anna\",\"Password\":\"pa55word-of-anna\"}\n\
                  {\"User\":\"Ben\",\"Password\":\"pa55word-of-Ben\"}\n";

    // A wrong password, since the report server compares the name with case here.
    let plan = bridged.import(&["--dry-run"], Some(logins)).await;
    assert!(plan.stderr.contains("anna: the report server refuses the user's name or password"));
    let logins = logins.replace("anna", "Anna");
    let plan = bridged.import(&["--dry-run"], Some(&logins)).await.success().unwrap();
    assert!(
        plan.contains(&format!("{of_anna} of Anna")) && plan.contains("comes (paused)"),
        "{plan}"
    );
    assert!(plan.ends_with("would import 2; 0 are here already; 0 can't come\n"), "{plan}");
    assert_eq!(world.json(&["webhooks", "list"]).await, json!([]));
    let done = bridged.import(&["--pause-old"], Some(&logins)).await.success().unwrap();
    assert_eq!(
        done,
        "imported 2; skipped 0 that were here before\npaused 1 at the report server\n"
    );
    let listed = world.json(&["webhooks", "list"]).await;
    let listed = listed.as_array().unwrap();
    let one = listed.iter().find(|it| it["Id"] == json!(of_anna)).unwrap();
    for (name, value) in members.as_object().unwrap() {
        assert_eq!(one[name], *value, "{name}");
        assert_eq!(server.webhook(&of_anna)[name], *value, "{name} at the report server");
    }
    assert_eq!((&one["User"], &one["IsPaused"]), (&json!("Anna"), &json!(false)));
    let other = listed.iter().find(|it| it["Id"] == json!(paused)).unwrap();
    assert_eq!((&other["User"], &other["IsPaused"]), (&json!("Ben"), &json!(true)));
    assert_eq!(server.webhook(&of_anna)["IsPaused"], json!(true));
    let again = bridged.import(&["--pause-old"], Some(&logins)).await.success().unwrap();
    assert_eq!(
        again,
        "imported 0; skipped 2 that were here before\npaused 0 at the report server\n"
    );

    server.create(Kind::Reports, Some("sales"));
    eventually("one notification", SOON, async || {
        let notified = notified(&receiver.requests());
        (notified.values().copied().collect::<Vec<_>>() == [1]).then_some(()).ok_or(notified)
    })
    .await;
}

/// Answers the verification of an address, and takes everything else.
fn echoing(request: &Request, _: usize) -> Reply {
    let echo = request.path.split_once("echo=").map(|(_, echo)| echo.to_owned());
    echo.map_or_else(|| Reply::status(200), |echo| Reply::text(200, echo))
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_come_from_the_framework_server_with_their_owners_and_secrets() {
    webhooks_come_from_the_report_server_with_their_owners_and_secrets(Dialect::Framework).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_come_from_the_net_server_with_their_owners_and_secrets() {
    webhooks_come_from_the_report_server_with_their_owners_and_secrets(Dialect::Net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_answer_to_the_pause_is_no_pause() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let server = &bridged.server;
    let anna = server.add_user("Anna");
    let receiver = Receiver::start().await;
    receiver.answer_with(echoing);
    let of_anna = server.add_webhook(&anna, &receiver.url("/"), &json!({}));
    let logins = "{\"User\":\"Anna\",\"Password\":\"pa55word-of-Anna\"}";
    server.switch(|it| it.html_for_changes = true);
    let output = bridged.import(&["--pause-old"], Some(logins)).await;
    assert_eq!(output.code(), Some(1));
    assert!(output.stderr.contains("does not list it as paused"), "{output:?}");
    assert!(output.stderr.contains("1 are still active at the report server"), "{output:?}");
    server.switch(|it| it.html_for_changes = false);
    bridged.import(&["--pause-old"], Some(logins)).await.success().unwrap();
    assert_eq!(server.webhook(&of_anna)["IsPaused"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_webhook_is_credited_to_another_user() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let (anna, ben) = (server.add_user("Anna"), server.add_user("Ben"));
    let of_anna = server.add_webhook(&anna, "http://receiver.example/anna", &json!({}));
    let of_ben = server.add_webhook(&ben, "http://receiver.example/ben", &json!({}));
    // The query is ignored: what comes is the administrator's own.
    let output = bridged.import(&[], None).await;
    assert!(output.stderr.contains("and not those of other users"), "{}", output.stderr);
    assert_eq!(output.success().unwrap(), "imported 0; skipped 0 that were here before\n");
    // Everyone sees everything: whose is what?
    server.switch(|it| it.listing = Listing::AllForEveryone);
    let logins = "{\"User\":\"Anna\",\"Password\":\"pa55word-of-Anna\"}\n\
                  {\"User\":\"Ben\",\"Password\":\"pa55word-of-Ben\"}\n";
    let output = bridged.import(&[], Some(logins)).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("so that its owner is not known"), "{}", output.stderr);
    assert_eq!(world.json(&["webhooks", "list"]).await, json!([]));
    // An administrator sees all of them, with their users.
    server.switch(|it| it.listing = Listing::AllForAdministrators);
    let output = bridged.import(&[], None).await.success().unwrap();
    assert_eq!(output, "imported 2; skipped 0 that were here before\n");
    let listed = world.json(&["webhooks", "list"]).await;
    let owner = |id: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|it| it["Id"] == json!(id)).unwrap()["User"].clone()
    };
    assert_eq!((owner(&of_anna), owner(&of_ben)), (json!("Anna"), json!("Ben")));
    // A login is asked for in JSON, and never printed.
    let output = bridged.import(&[], Some("{\"User\":\"Anna\",\"Pass\":\"s3cret\"}")).await;
    assert!(output.stderr.contains("line 1 of stdin is no login"), "{}", output.stderr);
    assert!(!output.stderr.contains("s3cret"));
}
