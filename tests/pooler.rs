//! A `PgBouncer` between Fanfare and the database.

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::servers::Servers;

use crate::console::Console;
use crate::metrics::Watched;
use crate::world::{World, event};

fn servers() -> Servers {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_work_through_a_session_pooler() {
    let servers = servers();
    let pooler = servers.start_pooler("pool_mode = session").unwrap();
    let amqp_url = servers.amqp_url("fanfare");
    // The migration uses the pooler, too.
    let world = World::on(&pooler.database_url("fanfare"), &amqp_url).await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;

    let console = Console::on(World::on(&pooler.database_url("fanfare"), &amqp_url).await).await;
    console.add(&["anna"], &[]).await;
    let page = console.webhooks_page("anna").await;
    assert!(page.contains(&receiver.url("/hook")), "{page}");

    // The worker notices a change, so its notifications work.
    world.fanfare(&["webhooks", "pause", &webhook]).await;
    world.fanfare(&["webhooks", "resume", &webhook]).await;
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 2).await;
    let deaf = "no notifications of changes to webhooks are received";
    assert!(!worker.lines().iter().any(|line| line.contains(deaf)), "{:#?}", worker.lines());

    let doctor = world.run(&["doctor"], None).await;
    assert!(doctor.stdout.contains("pooler: PgBouncer"), "{doctor:?}");
    assert_eq!(doctor.status.code(), Some(0), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_pooler_is_refused_until_it_pools_sessions() {
    const REFUSED: &str = "set pool_mode = session";
    let servers = servers();
    let amqp_url = servers.amqp_url("fanfare");
    World::on(&servers.database_url("fanfare"), &amqp_url).await;
    for mode in ["transaction", "statement"] {
        let pooler = servers.start_pooler(&format!("pool_mode = {mode}")).unwrap();
        let world = World::unmigrated(&pooler.database_url("fanfare"), &amqp_url)
            .with("FANFARE_METRICS_LISTEN", "127.0.0.1:0")
            .with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
        for command in [&["migrate"][..], &["webhooks", "list"], &["doctor"]] {
            let ended = world.run(command, None).await;
            assert_eq!(ended.status.code(), Some(2), "{mode}, {command:?}: {ended:?}");
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains(REFUSED), "{mode}, {command:?}: {said}");
        }
        let processes = [
            Watched::spawn(&world, "router").await,
            Watched::spawn(&world, "worker").await,
            Watched::spawn(&world, "console").await,
        ];
        for process in &processes {
            process.is_not_ready(REFUSED).await;
        }
        pooler.change("pool_mode = session").unwrap();
        for process in &processes {
            process.is_ready().await;
        }
    }
}

/// The pooler's mode is changed while the role runs.
#[tokio::test(flavor = "multi_thread")]
async fn change_to_transaction_pooling_is_detected() {
    let servers = servers();
    let pooler = servers.start_pooler("pool_mode = session").unwrap();
    let world = World::on(&pooler.database_url("fanfare"), &servers.amqp_url("fanfare")).await;
    let world = world.with("FANFARE_METRICS_LISTEN", "127.0.0.1:0");
    let router = Watched::start(&world, "router").await;
    pooler.change("pool_mode = transaction").unwrap();
    // Existing sessions stay exclusive; new ones are shared.
    servers
        .sql(
            "postgres",
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'fanfare'",
        )
        .unwrap();
    router.is_not_ready("set pool_mode = session").await;
}
