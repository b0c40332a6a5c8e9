//! Statements that were prepared before the schema changed, or on a session that has forgotten them.

use fanfare_store::reconcile::Passed;
use fanfare_store::{PlanMode, Remedy};

use crate::access::webhook;
use crate::support::Database;

/// Has the session that adds a webhook forget whatever it prepared, as a pooler may that resets it.
const FORGETFUL: &str = "
    create function forget() returns trigger language plpgsql as $$
    begin
        execute 'deallocate all';
        return new;
    end $$;
    create trigger forgetful before insert on webhooks for each row execute function forget()";

#[tokio::test]
async fn a_migration_under_a_prepared_statement_is_not_seen() {
    let database = Database::new().await;
    let store = database.another(PlanMode::Generic, 1);
    let hook = webhook("anna", &[], false);
    store.webhook_add(&hook).await.unwrap();
    store.webhooks_get(&[hook.id]).await.unwrap();
    let change = "alter table webhooks alter column description type varchar";
    database.client.batch_execute(change).await.unwrap();
    let read = store.webhooks_get(&[hook.id]).await.unwrap();
    assert_eq!(read.len(), 1);
}

#[tokio::test]
async fn a_session_that_forgot_its_statements_is_not_seen() {
    let database = Database::new().await;
    let store = database.another(PlanMode::Generic, 1);
    let first = webhook("anna", &[], false);
    store.webhook_add(&first).await.unwrap();
    store.webhooks_get(&[first.id]).await.unwrap();
    database.client.batch_execute(FORGETFUL).await.unwrap();
    store.webhook_add(&webhook("anna", &[], false)).await.unwrap();
    assert_eq!(store.webhooks_get(&[first.id]).await.unwrap().len(), 1);
}

/// A transaction that met it is over; the next one succeeds, and that is what the error says.
#[tokio::test]
async fn a_transaction_is_begun_again_when_its_statements_are_forgotten() {
    let database = Database::new().await;
    let store = database.another(PlanMode::Generic, 1);
    let passed = Passed { deliveries: None, retries: None };
    store.reconcile(10, passed).await.unwrap();
    database.client.batch_execute(FORGETFUL).await.unwrap();
    store.webhook_add(&webhook("anna", &[], false)).await.unwrap();
    let error = store.reconcile(10, passed).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Repeat, "{error:?}");
    store.reconcile(10, passed).await.unwrap();
}
