//! A database with a standby for which no commit waits.

use std::process::{Child, Stdio};

use fanfare_testkit::postgres_client;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;

use crate::world::{SOON, World};

/// A replication client that follows the database as a standby does, until it is dropped.
struct Standby(Child);

impl Standby {
    fn of(url: &str, folder: &std::path::Path) -> Self {
        let mut command = postgres_client("pg_receivewal").unwrap();
        command.args(["--no-loop", "--no-password", "--dbname", url, "--directory"]).arg(folder);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_and_doctor_warn_that_a_failover_would_lose_commits() {
    const NOTE: &str = "synchronous_standby_names is empty: a failover loses the last commits";
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let url = servers.database_url("fanfare");
    let world = World::on(&url, &servers.amqp_url("fanfare")).await;
    let migrated = world.run(&["migrate"], None).await;
    assert!(!migrated.stderr.contains(NOTE), "{}", migrated.stderr);
    let folder = std::env::temp_dir().join(format!("fanfare-wal-{}", crate::world::unique()));
    std::fs::create_dir(&folder).unwrap();
    let standby = Standby::of(&url, &folder);
    eventually("migrate warns of it", SOON, async || {
        let migrated = world.run(&["migrate"], None).await;
        if migrated.stderr.contains(NOTE) { Ok(()) } else { Err(migrated.stderr) }
    })
    .await;
    let doctor = world.run(&["doctor"], None).await.stdout;
    let line = doctor.lines().find(|line| line.contains("standbys"));
    assert!(line.is_some_and(|line| line.starts_with("ok") && line.contains(NOTE)), "{doctor}");
    drop(standby);
    std::fs::remove_dir_all(&folder).unwrap();
}
