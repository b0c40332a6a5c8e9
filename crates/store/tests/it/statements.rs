//! Statements that were prepared before the schema changed, or that their session has lost.

use fanfare_store::reconcile::Passed;
use fanfare_store::{PlanMode, Remedy, StoreError};

use crate::access::webhook;
use crate::support::Database;

/// Makes the session that adds a webhook lose its prepared statements, as a pooler's reset may.
const FORGETFUL: &str = "
    create function forget() returns trigger language plpgsql as $$
    begin
        execute 'deallocate all';
        return new;
    end $$;
    create trigger forgetful before insert on webhooks for each row execute function forget()";

#[tokio::test]
async fn statement_prepared_before_a_migration_is_prepared_again() {
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
async fn value_of_another_type_is_an_error_that_names_its_column() {
    let database = Database::new().await;
    let hook = webhook("anna", &[], false);
    database.store.webhook_add(&hook).await.unwrap();
    let change = "alter table webhooks alter column description type bytea using null";
    database.client.batch_execute(change).await.unwrap();
    let error = database.store.webhooks_get(&[hook.id]).await.unwrap_err();
    assert!(matches!(error, StoreError::Column { name: "description", .. }), "{error:?}");
    // The statement ran, although its answer can't be used.
    assert!(error.may_have_taken_effect());
}

#[tokio::test]
async fn statement_that_the_session_lost_is_prepared_again() {
    let database = Database::new().await;
    let store = database.another(PlanMode::Generic, 1);
    let first = webhook("anna", &[], false);
    store.webhook_add(&first).await.unwrap();
    store.webhooks_get(&[first.id]).await.unwrap();
    database.client.batch_execute(FORGETFUL).await.unwrap();
    store.webhook_add(&webhook("anna", &[], false)).await.unwrap();
    assert_eq!(store.webhooks_get(&[first.id]).await.unwrap().len(), 1);
}

/// Such an error ends the transaction. The next one succeeds, as the error's remedy says.
#[tokio::test]
async fn transaction_whose_statements_the_session_lost_fails_with_the_remedy_repeat() {
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
