//! Long-running processes: their start, their wait for servers, and their end.

use std::time::Duration;

use crate::command::Cli;
use crate::servers::CliWithServers;

/// Long enough for anything that is not meant to take long, on a busy machine.
const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn role_waits_for_unreachable_servers_and_ends_on_sigterm() {
    let cli = Cli::with_urls("postgres://x@127.0.0.1:1/x", "amqp://127.0.0.1:1");
    let mut router = cli.start(&[], &["router"]);
    router.wait_for_line("could not connect to RabbitMQ", SOON).await;
    router.terminate();
    assert_eq!(router.wait_exit(SOON).await.code(), Some(0));
    assert!(router.lines().iter().any(|line| line.contains("the router has ended")));
}

#[tokio::test]
async fn role_waits_for_the_migration() {
    let servers = CliWithServers::new().await;
    let mut router = servers.cli.start(&[], &["router"]);
    router.wait_for_line("run `fanfare migrate`", SOON).await;
    servers.ok(&["migrate"]);
    router.wait_for_line("the database answers again", SOON).await;
    router.interrupt();
    assert_eq!(router.wait_exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn migration_waits_for_the_database() {
    let cli = Cli::with_urls("postgres://x@127.0.0.1:1/x", "");
    let mut migrate = cli.start(&[], &["migrate"]);
    migrate.wait_for_line("waiting for it", SOON).await;
    migrate.terminate();
    assert_eq!(migrate.wait_exit(SOON).await.code(), Some(1));
}
