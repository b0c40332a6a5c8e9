//! A database that fails over, or allows no writes for a while: work continues without a restart.

use std::time::Instant;

use fanfare_testkit::process::Process;
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use url::Url;

use crate::metrics::Watched;
use crate::world::{SOON, World, event};

fn servers() -> Servers {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    servers
}

/// Publishes an event and waits until it is delivered.
async fn delivers(world: &World, receiver: &Receiver, what: &str) {
    let (before, since) = (receiver.count(), Instant::now());
    world.publish(&event()).await;
    eventually(&format!("it arrives {what}"), SOON, async || receiver.count() > before).await;
    println!("{what}: arrived after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_continues_after_a_standby_is_promoted() {
    let servers = servers();
    let standby = servers.start_standby().unwrap();
    // Both hosts are in one URL, the standby first: it is skipped while it is read-only.
    let (first, second) = (standby.database_url("fanfare"), servers.database_url("fanfare"));
    let host = |url: &str| url.split(['@', '/']).nth(3).unwrap().to_owned();
    let both = second.replace(&host(&second), &format!("{},{}", host(&first), host(&second)));
    let world = World::on(&both, &servers.amqp_url("fanfare")).await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let mut processes = [world.start("router").await, world.start("worker").await];
    delivers(&world, &receiver, "before the failover").await;
    tokio::task::block_in_place(|| servers.stop_database().and_then(|()| standby.promote()))
        .unwrap();
    delivers(&world, &receiver, "after the failover").await;
    assert!(processes.iter_mut().all(Process::is_running));
}

/// Neither setting ends a session, so processes must check that their connections allow writes.
#[tokio::test(flavor = "multi_thread")]
async fn read_only_server_is_left_for_a_writable_one() {
    let servers = servers();
    let standby = servers.start_standby().unwrap();
    let mut url = Url::parse(&servers.database_url("fanfare")).unwrap();
    let proxy = Proxy::start(servers.endpoints().database_addr().unwrap());
    url.set_port(Some(proxy.addr().port())).unwrap();
    let world = World::on(url.as_str(), &servers.amqp_url("fanfare")).await;
    let world = world
        .with("FANFARE_METRICS_LISTEN", "127.0.0.1:0")
        .with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut processes = Vec::new();
    for role in ["router", "worker", "console"] {
        processes.push(Watched::start(&world, role).await);
    }
    delivers(&world, &receiver, "at first").await;
    let set = |read_only: &str| {
        let set = format!("alter system set default_transaction_read_only = {read_only}");
        servers.sql("postgres", &set).unwrap();
        servers.sql("postgres", "select pg_reload_conf()").unwrap();
    };
    set("on");
    for process in &processes {
        process.is_not_ready("does not allow writes").await;
    }
    set("off");
    for process in &processes {
        process.is_ready().await;
    }
    delivers(&world, &receiver, "when writes were allowed again").await;

    set("on");
    tokio::task::block_in_place(|| standby.promote()).unwrap();
    proxy.lead_to(standby.addr().unwrap());
    delivers(&world, &receiver, "from the other server").await;
    for process in &processes {
        process.is_ready().await;
    }
    // Workers listen for changes at the current server.
    world.fanfare(&["webhooks", "pause", &webhook]).await;
    let before = receiver.count();
    world.publish(&event()).await;
    eventually("nothing is planned for a paused webhook", SOON, async || {
        let routed = standby.sql("fanfare", "select count(*) from events").unwrap();
        if routed == "4" { Ok(()) } else { Err(routed) }
    })
    .await;
    assert_eq!(receiver.count(), before);
    assert!(processes.iter_mut().all(Watched::is_running));
}
