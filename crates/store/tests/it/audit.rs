//! The audit trail's partitions, and its pages.

use fanfare_core::audit::{Author, Entry};
use fanfare_core::name::Name;
use fanfare_store::audit::AuditFilter;

use crate::support::Database;

fn entry(name: &str) -> Entry {
    Entry::account_created(&Name::parse(name).unwrap(), false)
}

/// The names of the partitions with rows, and the numbers of their rows.
async fn filled(database: &Database) -> Vec<(String, i64)> {
    const SQL: &str = "select tableoid::regclass::text, count(*) from audit group by 1 order by 1";
    let rows = database.client.query(SQL, &[]).await.unwrap();
    rows.iter().map(|row| (row.try_get(0).unwrap(), row.try_get(1).unwrap())).collect()
}

#[tokio::test]
async fn a_missing_partition_stops_no_entry_and_is_made_ahead() {
    let database = Database::new().await;
    let store = &database.store;
    assert_eq!(store.audit_make_partitions().await.unwrap(), 0, "the migration made them");
    store.audit_add(&Author::system(), &entry("anna")).await.unwrap();
    let drop = "do $$ declare part regclass; begin
        for part in select inhrelid::regclass from pg_inherits
                    where inhparent = 'audit'::regclass and inhrelid <> 'audit_rest'::regclass loop
            execute format('drop table %s', part);
        end loop;
    end $$";
    database.client.batch_execute(drop).await.unwrap();
    store.audit_add(&Author::system(), &entry("bob")).await.unwrap();
    assert_eq!(filled(&database).await, [("audit_rest".to_owned(), 1)]);
    // The month that has rows in the default partition keeps them there.
    assert_eq!(store.audit_make_partitions().await.unwrap(), 2);
    store.audit_add(&Author::system(), &entry("carol")).await.unwrap();
    assert_eq!(filled(&database).await, [("audit_rest".to_owned(), 2)]);
    let all = store.audit_list(&AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap();
    let ids: Vec<&str> = all.iter().map(|entry| entry.object.1.as_str()).collect();
    assert_eq!(ids, ["carol", "bob"]);
}

#[tokio::test]
async fn partitions_are_not_waited_for_while_the_table_is_in_use() {
    let database = Database::new().await;
    database.client.batch_execute("drop table audit_rest").await.unwrap();
    let next = "select to_char(date_trunc('month', now() at time zone 'UTC')
                               + interval '2 months', '\"audit_\"YYYY_MM')";
    let name: String = database.client.query_one(next, &[]).await.unwrap().try_get(0).unwrap();
    database.client.batch_execute(&format!("drop table {name}")).await.unwrap();
    database
        .client
        .batch_execute("create table audit_rest partition of audit default")
        .await
        .unwrap();
    let reader = database.connect().await;
    reader.batch_execute("begin; select from audit").await.unwrap();
    let refused = database.store.audit_make_partitions().await;
    assert!(refused.is_err(), "{refused:?}");
    // An entry waits for nothing.
    database.store.audit_add(&Author::system(), &entry("anna")).await.unwrap();
    reader.batch_execute("commit").await.unwrap();
    assert_eq!(database.store.audit_make_partitions().await.unwrap(), 1);
}
