//! Tests of permissions: which actor may run which use case.

use std::time::Duration;

use chrono::DateTime;
use fanfare_app::accounts::{self, AccountError};
use fanfare_app::dead_letters::mend::{self, MendError};
use fanfare_app::directory::{self, DirectoryError};
use fanfare_app::events::{self, EventError};
use fanfare_app::operations::{self, OperationError, Request};
use fanfare_app::overview::{self, OverviewError};
use fanfare_app::resends::{self, Origin, ResendError, Which};
use fanfare_app::storage::StorageLimits;
use fanfare_app::test_events::{self, SendError};
use fanfare_app::webhooks::{
    self, NewWebhook, OwnerScope, Patch, Plan, Verification, WebhookError,
};
use fanfare_app::{Actor, deliveries};
use fanfare_core::dead_letter::Choice;
use fanfare_core::operation::{Change, Kind};
use fanfare_core::resource::Resource;
use fanfare_store::deliveries::DeliveryFilter;
use fanfare_store::directory::Listed;
use fanfare_store::events::EventFilter;
use fanfare_store::explain::ExplainFilter;
use fanfare_store::retention::Keep;

use crate::support::{Installation, name, via, wanted};

const EVENTS: EventFilter = EventFilter {
    event_type: None,
    subject: None,
    webhook: None,
    settled: None,
    since: None,
    after: None,
    limit: 1,
};

#[tokio::test]
async fn another_users_webhook_does_not_exist_for_any_use_case() {
    let installation = Installation::new().await;
    let (context, id) = (&installation.context, installation.webhook("anna").await);
    let bob = &Actor::of_user(name("bob"), via());
    let skip = Verification::Skip;
    let results = [
        webhooks::find(context, bob, id).await.map(drop),
        webhooks::reveal(context, bob, id).await.map(drop),
        webhooks::rotate(context, bob, id, None, Duration::ZERO).await.map(drop),
        webhooks::replace(context, bob, id, wanted(), skip).await,
        webhooks::patch(context, bob, id, Patch::default(), skip).await.map(drop),
        webhooks::pause(context, bob, id, None).await,
        webhooks::resume(context, bob, id).await,
        webhooks::delete(context, bob, id).await,
    ];
    for (number, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(WebhookError::Unknown)), "{number}: {result:?}");
    }
    let sent = test_events::send(context, bob, id).await.map(drop);
    assert!(matches!(sent, Err(SendError::Webhook(WebhookError::Unknown))), "{sent:?}");
    let since = DateTime::UNIX_EPOCH;
    let results = [
        resends::count(context, bob, id, since).await.map(drop),
        resends::begin(context, bob, id, since, Origin::Program).await.map(drop),
        resends::show(context, bob, id, Which::Newest).await.map(drop),
        resends::cancel(context, bob, id, Which::Newest).await.map(drop),
    ];
    for (number, result) in results.into_iter().enumerate() {
        let is_unknown = matches!(result, Err(ResendError::Webhook(WebhookError::Unknown)));
        assert!(is_unknown, "{number}: {result:?}");
    }
    webhooks::delete_own(context, bob).await.unwrap();
    let anna = &Actor::of_user(name("anna"), via());
    assert!(!webhooks::find(context, anna, id).await.unwrap().paused);
}

#[tokio::test]
async fn an_owner_sees_and_changes_the_resends_of_own_webhooks_alone() {
    let installation = Installation::new().await;
    let (context, id) = (&installation.context, installation.webhook("anna").await);
    let [anna, bob] = ["anna", "bob"].map(|user| Actor::of_user(name(user), via()));
    let root = &Actor::of_administrator(name("root"), via());
    let since = DateTime::UNIX_EPOCH;
    let begun = resends::begin(context, &anna, id, since, Origin::Program).await.unwrap().id;
    for result in [
        operations::show(context, &bob, begun).await.map(drop),
        operations::change(context, &bob, begun, Change::Pause).await.map(drop),
        operations::change(context, &bob, begun, Change::Cancel).await.map(drop),
        operations::undo(context, &bob, begun).await.map(drop),
    ] {
        assert!(matches!(result, Err(OperationError::NotAdministrator(_))), "{result:?}");
    }
    let listed = async |actor| {
        let page = operations::list(context, actor, None, 10).await.unwrap();
        page.operations.iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(&anna).await, [begun]);
    assert_eq!(listed(root).await, [begun]);
    assert!(listed(&bob).await.is_empty());
    operations::change(context, &anna, begun, Change::Pause).await.unwrap();
    operations::change(context, root, begun, Change::Resume).await.unwrap();
    // Nothing else may be done with the dead letters of the own webhook, nor is a resend begun by another door.
    let request = |kind| Request {
        kind,
        choice: Choice { webhook: Some(id), ..Choice::default() },
        note: String::new(),
        rate: None,
        canary: false,
    };
    for kind in [Kind::Replay, Kind::Discard] {
        let result = operations::begin(context, &anna, &request(kind)).await.map(drop);
        assert!(matches!(result, Err(OperationError::NotAdministrator(_))), "{result:?}");
    }
    for actor in [&anna, root] {
        let result = operations::begin(context, actor, &request(Kind::Resend)).await.map(drop);
        assert!(matches!(result, Err(OperationError::Resend)), "{result:?}");
    }
}

#[tokio::test]
async fn a_user_can_neither_list_nor_create_anything_of_other_users() {
    let installation = Installation::new().await;
    let context = &installation.context;
    let bob = &Actor::of_user(name("bob"), via());
    for scope in [OwnerScope::All, OwnerScope::Of(name("anna")), OwnerScope::NotAName] {
        let listed = webhooks::list(context, bob, &scope).await.map(drop);
        assert!(matches!(listed, Err(WebhookError::NotAdministrator(_))), "{listed:?}");
    }
    let new =
        NewWebhook { owner: name("anna"), wanted: wanted(), verification: Verification::Skip };
    let registered = webhooks::register(context, bob, new).await.map(drop);
    assert!(matches!(registered, Err(WebhookError::NotAdministrator(_))), "{registered:?}");
    assert!(webhooks::plan(context, bob, &[], None, Verification::Skip).await.is_err());
    assert!(webhooks::carry_out(context, bob, Plan::default()).await.is_err());
    let owner = Some(name("anna"));
    let filter = DeliveryFilter { owner: owner.clone(), limit: 1, ..DeliveryFilter::default() };
    assert!(deliveries::list(context, bob, filter).await.is_err());
    let filter = ExplainFilter { webhook: None, owner, limit: 1 };
    for result in [
        events::list(context, bob, EVENTS).await.map(drop),
        events::named(context, bob, "1").await.map(drop),
        events::show(context, bob, "1", None).await.map(drop),
        events::explain(context, bob, "1", None, filter).await.map(drop),
    ] {
        assert!(matches!(result, Err(EventError::NotAdministrator(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_user_can_not_see_or_change_what_concerns_administrators() {
    let installation = Installation::new().await;
    let (context, store) = (&installation.context, &installation.context.store);
    let bob = &Actor::of_user(name("bob"), via());
    let mended = mend::original(context, bob, "1").await.map(drop);
    assert!(matches!(mended, Err(MendError::NotAdministrator(_))), "{mended:?}");
    let keep = Keep { payloads: None, facts: None, audit: None, recognition: None };
    let limits = StorageLimits { keep, disk: None };
    let shown = Box::pin(overview::show(context, bob, limits, Duration::ZERO)).await.map(drop);
    assert!(matches!(shown, Err(OverviewError::NotAdministrator(_))), "{shown:?}");
    let resource = Resource::parse("tasks/t1").unwrap();
    for result in [
        directory::state(store, bob).await.map(drop),
        directory::list(store, bob, Listed::Users, ("", None), 1).await.map(drop),
        directory::readers(store, bob, &resource, None).await.map(drop),
        directory::readable(store, bob, &name("bob"), 1).await.map(drop),
    ] {
        assert!(matches!(result, Err(DirectoryError::NotAdministrator(_))), "{result:?}");
    }
    for result in [
        accounts::list(store, bob).await.map(drop),
        accounts::disable(store, bob, &name("root"), "x").await,
        accounts::enable(store, bob, &name("bob")).await,
    ] {
        assert!(matches!(result, Err(AccountError::NotAdministrator(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_webhook_whose_secrets_can_not_be_opened_can_be_paused_and_deleted() {
    let installation = Installation::new().await;
    let id = installation.webhook("anna").await;
    let context = &installation.with_key("other");
    for actor in [Actor::of_operator("root", via()), Actor::of_administrator(name("root"), via())] {
        let found = webhooks::find(context, &actor, id).await.map(drop);
        assert!(matches!(found, Err(WebhookError::Store(_))), "{found:?}");
        webhooks::pause(context, &actor, id, None).await.unwrap();
        webhooks::resume(context, &actor, id).await.unwrap();
    }
    webhooks::delete(context, &Actor::of_administrator(name("root"), via()), id).await.unwrap();
    let deleted = webhooks::delete(context, &Actor::of_operator("root", via()), id).await;
    assert!(matches!(deleted, Err(WebhookError::Unknown)), "{deleted:?}");
}
