//! Private servers: they can be stopped, killed and wiped, and end with their owner.

use std::env::temp_dir;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::process::Process;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

#[tokio::test(flavor = "multi_thread")]
async fn keep_their_data_through_outages_and_end_with_their_owner() {
    let servers = start();
    servers.create_database("kept").unwrap();
    servers.create_vhost("kept").unwrap();
    let url = servers.amqp_url("kept");
    fill(&servers, &url).await;

    servers.stop_broker().unwrap();
    servers.stop_database().unwrap();
    assert!(Amqp::connect(&url).await.is_err());
    assert!(rows(&servers).is_err());
    servers.start_broker().unwrap();
    servers.start_database().unwrap();
    assert_eq!(messages(&url).await, 1);
    assert_eq!(rows(&servers).unwrap(), "1");

    servers.kill_broker().unwrap();
    servers.kill_database().unwrap();
    servers.start_broker().unwrap();
    servers.start_database().unwrap();
    assert_eq!(messages(&url).await, 1);
    assert_eq!(rows(&servers).unwrap(), "1");

    servers.wipe_broker().unwrap();
    let amqp = Amqp::connect(&url).await.unwrap();
    assert!(amqp.queue_len("kept").await.is_err(), "the queue is lost, the virtual host is there");

    let (folder, ids) = (servers.folder().to_path_buf(), processes_in(servers.folder()));
    assert!(ids.len() >= 3, "PostgreSQL, RabbitMQ, and epmd: {ids:?}");
    let keeper = *servers.process_ids().last().unwrap();
    drop(servers);
    assert!(!folder.exists());
    assert!(!is_running(keeper));
    assert_eq!(ids.into_iter().filter(|id| is_running(*id)).collect::<Vec<_>>(), [0_u32; 0]);
}

#[tokio::test]
async fn end_when_their_owner_is_killed() {
    let program = Path::new(env!("CARGO_BIN_EXE_testkit-servers"));
    let mut owner = Process::spawn(program, &[], []);
    let line = owner.wait_for_line("FANFARE_SERVERS_FOLDER=", Duration::from_mins(2)).await;
    let folder = PathBuf::from(line.split_once('=').unwrap().1);
    let ids = processes_in(&folder);
    assert!(ids.len() >= 3, "PostgreSQL, RabbitMQ, and epmd: {ids:?}");

    owner.kill9();
    eventually("all is gone", Duration::from_secs(10), async || {
        let left: Vec<_> = ids.iter().filter(|id| is_running(**id)).collect();
        if left.is_empty() && !folder.exists() { Ok(()) } else { Err(format!("{left:?} run")) }
    })
    .await;
}

fn start() -> Servers {
    Servers::start(&temp_dir()).unwrap()
}

async fn fill(servers: &Servers, url: &str) {
    servers.endpoints().sql("kept", "CREATE TABLE kept AS SELECT 1").unwrap();
    let amqp = Amqp::connect(url).await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    amqp.channel().queue_declare("kept".into(), options, FieldTable::default()).await.unwrap();
    amqp.publish("", "kept", "text/plain", &[], b"kept").await.unwrap();
}

async fn messages(url: &str) -> u32 {
    Amqp::connect(url).await.unwrap().queue_len("kept").await.unwrap()
}

fn rows(servers: &Servers) -> anyhow::Result<String> {
    servers.endpoints().sql("kept", "SELECT count(*) FROM kept")
}

/// The processes that work in a folder: the servers' main ones, and those that they started.
fn processes_in(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| {
            fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|it| it.starts_with(folder))
        })
        .collect()
}

/// An ended child keeps its entry until it is waited for, without a working directory.
fn is_running(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/cwd")).is_ok()
}
