//! Servers that answer but can't be used. A command ends with an error that says what to change; a
//! role logs it once and waits.

use std::time::Duration;

use fanfare_testkit::process::{Output, output_of};
use fanfare_testkit::wait::pass;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::servers::CliWithServers;

/// Long enough for anything that is not meant to take long, on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// How long the log of a role is observed: longer than several pauses between its attempts.
const LISTENED: Duration = Duration::from_secs(6);

async fn ended(
    servers: &CliWithServers,
    database: &str,
    broker: &str,
    arguments: &[&str],
) -> Output {
    let mut command = servers.cli.command(arguments);
    command.env("FANFARE_DATABASE_URL", database).env("FANFARE_AMQP_URL", broker);
    tokio::time::timeout(SOON, output_of(command, None)).await.unwrap().unwrap()
}

/// The URL with another password, another database, or a query.
fn wrong(url: &str) -> [(&'static str, String, &'static str); 5] {
    let (start, end) = url.split_once('@').unwrap();
    let user = start.rsplit_once(':').unwrap().0;
    let (server, _) = url.rsplit_once('/').unwrap();
    [
        ("a wrong password", format!("{user}:wrong@{end}"), "correct the user and password"),
        ("no such database", format!("{server}/nothing"), "createdb --encoding=UTF8"),
        ("no password", format!("{user}@{end}"), "correct the user and password"),
        (
            "an unknown setting",
            format!("{url}?options=-c%20nothing%3D1"),
            "take this setting out of FANFARE_DATABASE_URL",
        ),
        (
            "TLS, which the server does not have",
            format!("{url}?sslmode=require"),
            "correct sslmode",
        ),
    ]
}

#[tokio::test]
async fn commands_say_what_to_do_about_a_database_that_refuses_them() {
    let servers = CliWithServers::new().await;
    let (database, broker) = (&servers.sandbox.database_url, &servers.sandbox.amqp_url);
    for (what, url, advice) in wrong(database) {
        for arguments in [&["migrate"][..], &["webhooks", "list"], &["doctor"]] {
            let ended = ended(&servers, &url, broker, arguments).await;
            assert_eq!(ended.status.code(), Some(2), "{what}: {ended:?}");
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains(advice), "{what}: {said}");
            assert!(!said.contains("wrong@"), "a password is shown: {said}");
        }
    }
}

#[tokio::test]
async fn missing_rights_and_a_newer_schema_exit_with_2() {
    let servers = CliWithServers::migrated().await;
    let name = format!("stranger_{}", Uuid::new_v4().simple());
    let sql = |statement: &str| servers.sandbox.sql(statement).unwrap();
    sql(&format!("create role {name} login password 'p'"));
    sql(&format!(
        "do $$ begin execute format('grant connect on database %I to {name}', \
         current_database()); end $$"
    ));
    let (database, broker) = (&servers.sandbox.database_url, &servers.sandbox.amqp_url);
    let server = database.split_once('@').unwrap().1;
    let stranger = format!("postgres://{name}:p@{server}");
    for arguments in [&["webhooks", "list"][..], &["migrate"]] {
        let refused = ended(&servers, &stranger, broker, arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains("permission denied"), "{refused:?}");
        assert!(refused.stderr.contains("run `fanfare migrate` as the owner"), "{refused:?}");
    }
    sql(&format!("drop owned by {name}; drop role {name}"));
    sql("insert into refinery_schema_history values (9999, 'later', '', '1')");
    let newer = ended(&servers, database, broker, &["migrate"]).await;
    assert_eq!(newer.status.code(), Some(2), "{newer:?}");
    assert!(newer.stderr.contains("install the newer Fanfare"), "{newer:?}");
}

#[tokio::test]
async fn database_from_before_the_first_release_is_not_changed() {
    let servers = CliWithServers::new().await;
    let sql = |statement: &str| servers.sandbox.sql(statement).unwrap();
    sql("create table refinery_schema_history \
         (version int4 primary key, name varchar, applied_on varchar, checksum varchar)");
    sql("insert into refinery_schema_history values \
         (1, 'ledger_and_directory', '', '1'), (2, 'directory_validity_in_one_place', '', '2'), \
         (20, 'webhook_paces', '', '3')");
    for command in ["migrate", "doctor"] {
        let (database, broker) = (&servers.sandbox.database_url, &servers.sandbox.amqp_url);
        let ended = ended(&servers, database, broker, &[command]).await;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("made by a version before 0.1.0"), "{said}");
        assert!(said.contains("create an empty database, run `fanfare migrate`"), "{said}");
    }
    let tables = "select count(*) from pg_class \
                  where relkind = 'r' and relnamespace = 'public'::regnamespace";
    assert_eq!(sql(tables).trim(), "1");
}

#[tokio::test]
async fn commands_say_what_to_do_about_a_broker_that_refuses_them() {
    let servers = CliWithServers::migrated().await;
    let (database, broker) = (&servers.sandbox.database_url, &servers.sandbox.amqp_url);
    let event = servers.cli.file("event.json", "{}");
    let publish = ["publish", event.to_str().unwrap()];
    let [(_, wrong_password, _), (_, no_vhost, _), ..] = wrong(broker);
    let tls = broker.replacen("amqp://", "amqps://", 1);
    for (url, said) in [
        (wrong_password, "check the name and password"),
        (no_vhost, "create the virtual host"),
        (tls, "check the port, and whether TLS is on"),
    ] {
        for arguments in [&publish[..], &["doctor"]] {
            let ended = ended(&servers, database, &url, arguments).await;
            assert_eq!(ended.status.code(), Some(2), "{said}: {ended:?}");
            assert!(format!("{}{}", ended.stdout, ended.stderr).contains(said), "{ended:?}");
        }
    }
}

/// A database of another encoding. It is dropped at the end of the test.
struct Encoded<'a> {
    servers: &'a CliWithServers,
    name: String,
}

impl<'a> Encoded<'a> {
    fn new(servers: &'a CliWithServers, encoding: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let create = format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        );
        servers.sandbox.sql(&create).unwrap();
        Self { servers, name }
    }

    fn url(&self) -> String {
        let (server, _) = self.servers.sandbox.database_url.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }
}

impl Drop for Encoded<'_> {
    fn drop(&mut self) {
        let drop = format!("drop database {} with (force)", self.name);
        let _ = self.servers.sandbox.sql(&drop);
    }
}

#[tokio::test]
async fn database_of_another_encoding_is_not_changed() {
    let servers = CliWithServers::new().await;
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let database = Encoded::new(&servers, encoding);
        for command in ["migrate", "doctor"] {
            let ended =
                ended(&servers, &database.url(), &servers.sandbox.amqp_url, &[command]).await;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("encoding is {encoding}")), "{said}");
            assert!(said.contains("createdb --encoding=UTF8"), "{said}");
        }
        let made = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
        assert_eq!(servers.sandbox.on_servers().0.sql(&database.name, made).unwrap(), "0");
    }
}

#[tokio::test]
async fn roles_log_a_configuration_error_once_and_wait() {
    let servers = CliWithServers::migrated().await;
    let (database, broker) = (&servers.sandbox.database_url, &servers.sandbox.amqp_url);
    let latin = Encoded::new(&servers, "LATIN1");
    let [(_, wrong_password, advice), ..] = wrong(database);
    for (url, advice) in [(wrong_password, advice), (latin.url(), "createdb --encoding=UTF8")] {
        for role in ["router", "worker", "console"] {
            let variables = [
                ("FANFARE_DATABASE_URL", url.as_str()),
                ("FANFARE_AMQP_URL", broker.as_str()),
                ("FANFARE_METRICS_LISTEN", "127.0.0.1:0"),
                ("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0"),
            ];
            let mut process = servers.cli.start(&variables, &[role]);
            let line = process.wait_for_line("/readyz on http://", SOON).await;
            let address = line.rsplit("http://").next().unwrap().trim().to_owned();
            process.wait_for_line(advice, SOON).await;
            pass(LISTENED).await;
            let lines = process.lines();
            let said = lines.iter().filter(|line| line.contains(advice)).count();
            assert_eq!(said, 1, "{role}: {lines:#?}");
            assert!(lines.len() < 15, "{role}: {lines:#?}");
            let ready = answer(&address, "/readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(advice), "{ready}");
            if let Some(line) = lines.iter().find(|line| line.contains("listening on http://")) {
                let console = line.rsplit("http://").next().unwrap().trim();
                let asked = answer(console, "/api/webhooks/registrations").await;
                assert!(asked.starts_with("HTTP/1.1 503"), "{asked}");
            }
            assert!(process.is_running());
        }
    }
}

/// The answer of a process to a request with an access token, which is not valid.
async fn answer(address: &str, path: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        "A".repeat(43)
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
