//! A small installation for one test: a database and a virtual host, a directory, webhooks, and
//! processes.
//!
//! Every process logs in as a real installation's does, with the rights that `deploy/postgres` and
//! `deploy/rabbitmq` give its role, and no more.

use std::collections::HashSet;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfare_core::ids::DeliveryId;
use fanfare_testkit::amqp::{Amqp, Message};
use fanfare_testkit::build::under_test;
use fanfare_testkit::installation::REPORT_SERVER;
use fanfare_testkit::pgproxy::PgProxy;
use fanfare_testkit::postgres_client;
use fanfare_testkit::previous::previous_version;
use fanfare_testkit::process::{Output, Process, output_of};
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::roles::as_role;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::shared;
use fanfare_testkit::wait::eventually;
use fanfare_testkit::{Break, Installation};
use serde_json::{Value, json};
use url::Url;

/// Long enough for anything that is not meant to take long, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// A secret that webhooks of the tests have.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An installation with what the tests ask of it.
pub(crate) struct World {
    installation: Installation,
    pub(crate) amqp_url: String,
}

impl World {
    /// A migrated installation of its own.
    pub(crate) async fn new() -> Self {
        Self::of(Installation::in_sandbox(under_test(), Sandbox::migrated().await))
    }

    /// A migrated installation on these servers.
    pub(crate) async fn on(database_url: &str, amqp_url: &str) -> Self {
        let world = Self::unmigrated(database_url, amqp_url);
        world.fanfare(&["migrate"]).await;
        world
    }

    /// The settings of an installation on these servers.
    pub(crate) fn unmigrated(database_url: &str, amqp_url: &str) -> Self {
        Self::of(Installation::new(under_test(), database_url, amqp_url))
    }

    /// The version of the previous commit and this one, on one unmigrated database.
    pub(crate) async fn of_two_versions() -> (Self, Self) {
        let sandbox = Sandbox::new().await;
        let new = Self::unmigrated(&sandbox.database_url, &sandbox.amqp_url);
        (Self::of(Installation::in_sandbox(previous_version(), sandbox)), new)
    }

    fn of(installation: Installation) -> Self {
        let installation = installation
            .with_accounts()
            .with("FANFARE_RETRY_FIRST", "1s")
            .with("FANFARE_RETRY_MAX_DELAY", "1s")
            .with("FANFARE_RETRY_ATTEMPTS", "4")
            .with("FANFARE_TIMEOUT", "5s")
            .with("FANFARE_LOG", "info,fanfare=debug,fanfare_router=debug,fanfare_worker=debug");
        let amqp_url = installation.setting("FANFARE_AMQP_URL").unwrap().to_owned();
        Self { installation, amqp_url }
    }

    /// The same with one setting changed.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.installation = self.installation.with(name, value);
        self
    }

    /// Runs a command that must succeed; returns its stdout.
    pub(crate) async fn fanfare(&self, args: &[&str]) -> String {
        self.fanfare_with(args, None).await
    }

    /// The same, with something on stdin.
    pub(crate) async fn fanfare_with(&self, args: &[&str], stdin: Option<&str>) -> String {
        self.installation.run(args, stdin).await.unwrap()
    }

    /// Runs a command, however it ends.
    pub(crate) async fn run(&self, args: &[&str], stdin: Option<&str>) -> Output {
        self.installation.output(args, stdin).await.unwrap()
    }

    /// Runs a command with some of its environment changed, however it ends.
    pub(crate) async fn run_with_envs(&self, args: &[&str], changed: &[(&str, &str)]) -> Output {
        let mut command = self.installation.command(args);
        command.envs(changed.iter().copied());
        output_of(command, None).await.unwrap()
    }

    /// Runs a command with `--json`.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        self.installation.json(args).await.unwrap()
    }

    /// Starts a process of a role and waits until it works.
    pub(crate) async fn start(&self, role: &str) -> Process {
        let process = self.spawn(role);
        process.wait_for_line("connected to the broker", SOON).await;
        process
    }

    /// Starts a process of a role.
    pub(crate) fn spawn(&self, role: &str) -> Process {
        self.spawn_with(&[role])
    }

    /// The same with some of its environment changed.
    pub(crate) fn spawn_with_envs(&self, role: &str, changed: &[(&str, &str)]) -> Process {
        let mut command = self.installation.command(&[role]);
        command.envs(changed.iter().copied());
        Process::of(command)
    }

    /// A proxy before the database, and the URL with which a process of a role uses it.
    pub(crate) fn proxied_database(&self, role: &str) -> (PgProxy, String) {
        let proxy = PgProxy::start(shared::endpoints().database_addr().unwrap());
        let url = proxy.url(&self.installation.database_url(role).unwrap());
        (proxy, url)
    }

    /// Starts a process of a role whose statements pass through a proxy, and waits until it works.
    pub(crate) async fn start_proxied(&self, role: &str) -> (PgProxy, Process) {
        let (proxy, url) = self.proxied_database(role);
        let process = self.spawn_with_envs(role, &[("FANFARE_DATABASE_URL", &url)]);
        process.wait_for_line("connected to the broker", SOON).await;
        (proxy, process)
    }

    /// Starts a command, without waiting for it.
    pub(crate) fn spawn_with(&self, args: &[&str]) -> Process {
        self.installation.spawn(args)
    }

    /// Imports a directory.
    pub(crate) async fn directory(&self, document: &Value) {
        self.fanfare_with(&["directory", "import", "-"], Some(&document.to_string())).await;
    }

    /// Imports a directory whose only user is `anna`, who may read everything.
    pub(crate) async fn directory_of_anna(&self) {
        self.directory(&json!({
            "users": [{ "name": "anna", "roles": ["System Administrator"] }], "roles": []
        }))
        .await;
    }

    /// Registers a webhook of `anna`, who may read everything.
    pub(crate) async fn webhook(&self, url: &str) -> String {
        self.directory_of_anna().await;
        self.webhook_of("anna", url, &[]).await
    }

    /// Registers a webhook; returns its id.
    pub(crate) async fn webhook_of(&self, owner: &str, url: &str, more: &[&str]) -> String {
        let fixed = ["webhooks", "add", "--no-verify", "--owner", owner, "--url", url];
        let secret = ["--secret", SECRET];
        let args: Vec<&str> = fixed.iter().chain(&secret).chain(more).copied().collect();
        self.json(&args).await["Id"].as_str().unwrap().to_owned()
    }

    /// A connection to the broker.
    pub(crate) async fn amqp(&self) -> Amqp {
        Amqp::connect(&self.amqp_url).await.unwrap()
    }

    /// The broker's address for the report server.
    pub(crate) fn report_server_url(&self) -> String {
        as_role(&self.amqp_url, REPORT_SERVER)
    }

    /// Publishes one event.
    pub(crate) async fn publish(&self, event: &Value) {
        let amqp = Amqp::connect(&self.report_server_url()).await.unwrap();
        publish_on(&amqp, event).await;
    }

    /// Waits until every delivery of a webhook has ended.
    pub(crate) async fn deliveries_settle(&self, webhook: &str) {
        for state in ["pending", "retrying"] {
            eventually(&format!("no delivery {state}"), SOON, async || {
                let list = ["deliveries", "list", "--webhook", webhook, "--state", state];
                let list = self.json(&list).await;
                if list == json!([]) { Ok(()) } else { Err(list) }
            })
            .await;
        }
    }

    /// The same with the database behind a proxy, which can make it unreachable.
    pub(crate) fn with_database_proxy(self) -> (Self, Proxy) {
        self.with_proxy("FANFARE_DATABASE_URL", 5432)
    }

    /// The same with the broker behind a proxy, which can make it unreachable. The test itself still
    /// publishes without it.
    pub(crate) fn with_broker_proxy(self) -> (Self, Proxy) {
        self.with_proxy("FANFARE_AMQP_URL", 5672)
    }

    fn with_proxy(self, setting: &str, port: u16) -> (Self, Proxy) {
        let mut url = Url::parse(self.installation.setting(setting).unwrap()).unwrap();
        let target = *url.socket_addrs(|| Some(port)).unwrap().first().unwrap();
        let proxy = Proxy::start(target);
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.addr().port())).unwrap();
        (self.with(setting, url.as_str()), proxy)
    }

    fn sandbox(&self) -> &Sandbox {
        self.installation.sandbox().unwrap()
    }

    /// Breaks a queue.
    pub(crate) fn break_queue(&self, queue: &str, how: Break) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.break_queue(vhost, queue, how).unwrap();
    }

    /// Closes all connections to the broker.
    pub(crate) fn close_broker_connections(&self) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.close_connections(vhost).unwrap();
    }

    /// Lets queues hold `length` messages at most, and refuse the rest.
    pub(crate) fn limit_queues(&self, pattern: &str, length: u32) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.limit_queues(vhost, pattern, length).unwrap();
    }

    /// Removes that limit.
    pub(crate) fn unlimit_queues(&self) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.unlimit_queues(vhost).unwrap();
    }

    /// Sets a policy of the broker for all that it holds.
    pub(crate) fn set_blanket_policy(&self, definition: &str) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.set_policy(vhost, "blanket", ".*", definition).unwrap();
    }

    /// Takes the router's right to make or change the report server's exchange.
    pub(crate) fn may_not_configure_the_events_exchange(&self) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.let_configure(vhost, "fanfare_router", "^fanfare\\..+$").unwrap();
    }

    /// Removes that policy.
    pub(crate) fn clear_blanket_policy(&self) {
        let (servers, vhost) = self.sandbox().on_servers();
        servers.clear_policy(vhost, "blanket").unwrap();
    }

    /// The rows of a statement, as text.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap().trim().to_owned()
    }

    /// Runs a statement beside the test, in a thread that ends with it, whatever it answers.
    pub(crate) fn run_sql_beside(&self, statement: &'static str) -> JoinHandle<()> {
        let (endpoints, name) = self.sandbox().on_servers();
        let name = name.to_owned();
        thread::spawn(move || drop(endpoints.sql(&name, statement)))
    }

    /// The same for a statement that may fail.
    pub(crate) fn try_sql(&self, statement: &str) -> Result<String, String> {
        self.sandbox().sql(statement).map_err(|error| error.to_string())
    }

    /// The database as `pg_dump` writes it: all rows of all tables.
    pub(crate) fn dump(&self) -> String {
        let url = self.installation.database_url("migrate").unwrap();
        let mut dump = postgres_client("pg_dump").unwrap();
        let output = dump.args(["--data-only", "--dbname", &url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The Ids of the deliveries that the ledger has attempts of.
    pub(crate) fn attempted(&self) -> HashSet<String> {
        let rows = self.sql("select distinct batch || ' ' || webhook from attempts");
        let id = |row: &str| {
            let (batch, webhook) = row.split_once(' ').unwrap();
            DeliveryId::of(batch.parse().unwrap(), webhook.parse().unwrap()).to_string()
        };
        rows.lines().map(id).collect()
    }

    /// Inserts dead deliveries, each of an event of its own, without messages in the queue.
    pub(crate) fn insert_dead(&self, webhook: &str, n: u32) {
        self.sql(&format!(
            "with made as (
                 insert into events (key, batch, position, source, event_id, event_type, subject,
                                     decided_revision, notification, webhooks)
                 select key, key, 0, '/dead', n::text, 'tasks.execute', 'tasks/t1', 1,
                        '{{\"Action\":\"tasks\",\"UserAction\":\"execute\"}}', array['{webhook}'::uuid]
                 from (select gen_random_uuid() as key, n from generate_series(1, {n}) n) keys
                 returning key, received_at
             )
             insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason,
                                   at, duration_ms, outcome, status, revision, received_at)
             select key, '{webhook}', 1, 1, 1, received_at, 'dead', 'exhausted', received_at, 5,
                    'status', 500, 0, received_at
             from made"
        ));
        // There are no messages in their queue, which a router would miss.
        self.sql("update dead_letters set copies = 0 where copies > 0");
    }

    /// Waits until a webhook has `count` deliveries, all in `state`; returns them, the newest first.
    pub(crate) async fn deliveries(&self, webhook: &str, state: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} deliveries {state}");
        eventually(&what, SOON, async || {
            let list = self.json(&["deliveries", "list", "--webhook", webhook]).await;
            let list = list.as_array().unwrap().clone();
            let states: Vec<&Value> = list.iter().map(|delivery| &delivery["state"]).collect();
            let reached = states.len() == count && states.iter().all(|it| **it == json!(state));
            if reached { Ok(list) } else { Err(format!("{list:?}")) }
        })
        .await
    }
}

/// Publishes one event as the report server does.
pub(crate) async fn publish_on(amqp: &Amqp, event: &Value) {
    let key = event["type"].as_str().unwrap_or("none");
    let body = event.to_string();
    amqp.publish("reportserver.events", key, "application/cloudevents+json", &[], body.as_bytes())
        .await
        .unwrap();
}

/// Waits for this number of dead events, and takes them from their queue.
pub(crate) async fn dead_events(amqp: &Amqp, count: usize) -> Vec<Message> {
    const QUEUE: &str = "fanfare.events.dead";
    eventually(&format!("{count} dead letters"), SOON, async || {
        let found = amqp.queue_len(QUEUE).await.unwrap() as usize;
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
    amqp.drain(QUEUE).await.unwrap()
}

/// An event of a task.
pub(crate) fn event() -> Value {
    json!({
        "specversion": "1.0", "id": unique(), "source": "/tests", "type": "tasks.execute",
        "subject": "tasks/t1", "data": { "Id": "t1", "Name": "Nightly orders" }
    })
}

/// A text that is different each time.
pub(crate) fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
