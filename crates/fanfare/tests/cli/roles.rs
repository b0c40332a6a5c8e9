//! Long-running processes: their start, their wait for servers, and their end.

use std::path::Path;
use std::time::Duration;

use fanfare_testkit::process::Process;

use crate::command::Place;
use crate::world::World;

/// Much longer than any step here takes.
const SOON: Duration = Duration::from_secs(20);

fn start(place: &Place, role: &str, database: &str, broker: &str) -> Process {
    let variables = [
        ("HOME", place.path().to_str().unwrap()),
        ("FANFARE_DATABASE_URL", database),
        ("FANFARE_AMQP_URL", broker),
    ];
    Process::spawn(Path::new(env!("CARGO_BIN_EXE_fanfare")), &[role], variables)
}

#[tokio::test]
async fn role_waits_for_unreachable_servers_and_ends_on_sigterm() {
    let place = Place::new();
    let mut router = start(&place, "router", "postgres://x@127.0.0.1:1/x", "amqp://127.0.0.1:1");
    router.wait_for_line("could not connect to RabbitMQ", SOON).await;
    router.terminate();
    assert_eq!(router.wait_exit(SOON).await.code(), Some(0));
    assert!(router.lines().iter().any(|line| line.contains("the router has ended")));
}

#[tokio::test]
async fn role_waits_for_the_migration() {
    let world = World::new().await;
    let sandbox = &world.sandbox;
    let mut router = start(&world.place, "router", &sandbox.database_url, &sandbox.amqp_url);
    router.wait_for_line("run `fanfare migrate`", SOON).await;
    world.ok(&["migrate"]);
    router.wait_for_line("the database answers again", SOON).await;
    router.interrupt();
    assert_eq!(router.wait_exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn migration_waits_for_the_database() {
    let place = Place::new();
    let mut migrate = start(&place, "migrate", "postgres://x@127.0.0.1:1/x", "");
    migrate.wait_for_line("waiting for it", SOON).await;
    migrate.terminate();
    assert_eq!(migrate.wait_exit(SOON).await.code(), Some(1));
}
