//! Actions that each process's accounts may not do. All other tests show that their rights suffice.

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::roles::as_role;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn database_roles_have_only_their_rights() {
    let world = World::new().await;
    for (role, statement) in [
        ("fanfare_router", "select sealed from webhooks"),
        ("fanfare_router", "select uri from webhooks"),
        ("fanfare_router", "update webhooks set paused = true"),
        ("fanfare_router", "update attempts set state = 'delivered'"),
        ("fanfare_router", "delete from attempts"),
        ("fanfare_router", "update events set webhooks = '{}'"),
        ("fanfare_router", "select from accounts"),
        ("fanfare_router", "create table x (y int)"),
        ("fanfare_router", "update webhook_paces set hold_until = null"),
        ("fanfare_console", "update webhook_paces set hold_until = null"),
        ("fanfare_worker", "update webhooks set uri = ''"),
        ("fanfare_worker", "update webhooks set sealed = ''"),
        ("fanfare_worker", "insert into events select * from events"),
        ("fanfare_worker", "update attempts set state = 'delivered'"),
        ("fanfare_worker", "delete from directory_versions"),
        ("fanfare_worker", "select from accounts"),
        ("fanfare_worker", "select from sessions"),
        ("fanfare_console", "update accounts set administrator = true"),
        ("fanfare_console", "insert into publishers (token_digest) values ('')"),
        ("fanfare_console", "update publishers set revoked_at = null"),
        ("fanfare_router", "select from publishers"),
        ("fanfare_console", "insert into directory_members select * from directory_members"),
        ("fanfare_console", "update attempts set state = 'delivered'"),
        ("fanfare_console", "delete from webhooks"),
        ("fanfare_console", "delete from events"),
        ("fanfare_console", "create temporary table x (y int)"),
        ("fanfare_all", "update accounts set administrator = true"),
        ("fanfare_all", "delete from webhooks"),
        ("fanfare_all", "delete from events"),
        ("fanfare_all", "create table x (y int)"),
        ("fanfare_router", "select from audit"),
        ("fanfare_router", "update audit set actor = 'x'"),
        ("fanfare_router", "delete from audit"),
        ("fanfare_worker", "select from audit"),
        ("fanfare_worker", "update audit set actor = 'x'"),
        ("fanfare_console", "update audit set actor = 'x'"),
        ("fanfare_console", "delete from audit"),
        ("fanfare_console", "delete from audit_rest"),
        ("fanfare_console", "select make_audit_partitions(1)"),
        ("fanfare_admin", "update audit set actor = 'x'"),
        ("fanfare_admin", "delete from audit"),
        ("fanfare_admin", "truncate audit"),
        ("fanfare_admin", "delete from audit_rest"),
        ("fanfare_admin", "delete from refinery_schema_history"),
        ("fanfare_admin", "drop table events"),
        ("fanfare_migrate", "create role x"),
    ] {
        let refused = world.try_sql(&format!("set role {role}; {statement}")).unwrap_err();
        let words = ["permission denied", "must be owner"];
        assert!(words.iter().any(|word| refused.contains(word)), "{role}: {statement}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_users_have_only_their_rights() {
    let world = World::new().await;
    world.start("router").await;
    let publish = async |user: &str, exchange: &str, key: &str| {
        let amqp = Amqp::connect(&as_role(&world.amqp_url, user)).await.unwrap();
        amqp.publish(exchange, key, "application/json", &[], b"{}").await
    };
    // A console publishes what it accepts over HTTP; in `fanfare all` it has the router's user.
    for user in ["report_server", "fanfare_console", "fanfare_router"] {
        publish(user, "reportserver.events", "reports.upload").await.unwrap();
    }
    for (user, exchange, key) in [
        ("report_server", "", "fanfare.deliveries"),
        ("report_server", "fanfare.due", "x.events"),
        ("fanfare_worker", "reportserver.events", "reports.upload"),
        ("fanfare_worker", "fanfare.due", "x.events"),
        ("fanfare_console", "fanfare.delay.00", "1.events"),
    ] {
        assert!(publish(user, exchange, key).await.is_err(), "{user} publishes to {exchange}");
    }
    for (user, queue) in [
        ("report_server", "fanfare.events"),
        ("report_server", "fanfare.deliveries"),
        ("fanfare_worker", "fanfare.events"),
        ("fanfare_worker", "fanfare.deliveries.dead"),
        ("fanfare_console", "fanfare.deliveries"),
        ("fanfare_console", "fanfare.directory"),
    ] {
        let amqp = Amqp::connect(&as_role(&world.amqp_url, user)).await.unwrap();
        assert!(amqp.drain(queue).await.is_err(), "{user} reads {queue}");
    }
    for user in ["report_server", "fanfare_worker", "fanfare_console"] {
        let url = as_role(&world.amqp_url, user);
        let amqp = Amqp::connect(&url).await.unwrap();
        assert!(amqp.declare("fanfare.mine").await.is_err(), "{user} declares");
        let amqp = Amqp::connect(&url).await.unwrap();
        assert!(amqp.delete("fanfare.events").await.is_err(), "{user} deletes");
    }
}
