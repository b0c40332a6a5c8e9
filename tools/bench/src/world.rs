//! One installation: its own database and virtual host, webhooks at the sink, a router, a worker,
//! and a publisher. It counts the expected deliveries, so that it can check at the end that none
//! was lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config, PlanMode, Store};
use fanfare_testkit::Installation;
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::installation::ready_line;
use fanfare_testkit::service::Service;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::process::{self, Helper};
use crate::publisher::{Answer, Command};
use crate::sink::{Command as SinkCommand, Manner, Seen};
use crate::stage::Stage;
use crate::{number, usage};

/// The owner of all webhooks, who may read everything.
pub(crate) const OWNER: &str = "bench";

/// The secret of all webhooks.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Publishing takes less, at any rate that is measured.
const PUBLISH_TIMEOUT: Duration = Duration::from_mins(10);

/// The time limit for the last rows of the ledger, which are written after the sink has answered.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// A webhook to register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook<'a> {
    /// The sink's kind of answers.
    pub(crate) manner: Manner,
    /// The group that it is counted for.
    pub(crate) group: &'a str,
    /// Its filters, separated by spaces.
    pub(crate) filter: &'a str,
}

/// Events to publish and deliver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Their filter, the first part of their type.
    pub(crate) filter: &'a str,
    /// The number of their actions, `a0`, `a1` and so on in turn; 1 for the usual action only.
    pub(crate) actions: u64,
    /// The group whose webhooks get them.
    pub(crate) group: &'a str,
    /// The number of webhooks that get each event.
    pub(crate) fan_out: u64,
    pub(crate) count: u64,
    /// Events a second; `None` for as fast as the broker confirms.
    pub(crate) rate: Option<f64>,
    /// The size of each event's data, in bytes.
    pub(crate) size: usize,
    /// The most events that wait for a confirm.
    pub(crate) in_flight: usize,
}

/// An installation.
pub(crate) struct World {
    pub(crate) name: String,
    installation: Installation,
    amqp_url: String,
    database_url: String,
    pub(crate) publisher: Helper,
    roles: Vec<Service>,
    n_hooks: usize,
    next: u64,
    /// The most that the publisher was behind its rate in the last load, in milliseconds.
    pub(crate) behind_ms: f64,
    /// The deliveries that must arrive at the sink, by group.
    owed: BTreeMap<String, u64>,
    /// Deliveries that are in the ledger already, or whose webhooks are not awaited.
    pub(crate) others: u64,
    /// The time from which on the ledger is checked, as the database writes it.
    pub(crate) checked_since: String,
}

impl World {
    /// Creates an installation without webhooks and processes, and resets the sink.
    pub(crate) async fn new(stage: &mut Stage, settings: &[(&str, &str)]) -> Result<Self> {
        let name = stage.next_name();
        stage.sink.send(&SinkCommand::Reset).await?;
        let endpoints = stage.servers.endpoints();
        let mut installation = Installation::create(&stage.binary, endpoints, &name)?
            .in_folder_of_servers(stage.servers.folder())
            .with("FANFARE_SECRET_KEYS", "bench:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
            .with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0")
            // All webhooks are one owner's.
            .with("FANFARE_WEBHOOKS_PER_OWNER", "1000000");
        for (name, value) in settings {
            installation = installation.with(name, value);
        }
        let world = Self {
            amqp_url: endpoints.amqp_url(&name),
            database_url: endpoints.database_url(&name),
            publisher: Helper::start(&stage.home, "publisher")?,
            name,
            installation,
            roles: Vec::new(),
            n_hooks: 0,
            next: 0,
            behind_ms: 0.0,
            owed: BTreeMap::new(),
            others: 0,
            checked_since: "epoch".to_owned(),
        };
        world.fanfare(stage, &["migrate"]).await?;
        let role = "System Administrator";
        let document = json!({ "users": [{ "name": OWNER, "roles": [role] }], "roles": [] });
        world.import(stage, &["directory", "import"], &document.to_string()).await?;
        Ok(world)
    }

    pub(crate) async fn hooks(&mut self, stage: &Stage, hooks: &[Hook<'_>]) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(hooks.len());
        for hook in hooks {
            let url = stage.sink.url(hook.manner, hook.group, self.n_hooks)?;
            self.n_hooks += 1;
            all.push(json!({
                "Id": Uuid::new_v4().simple().to_string(), "User": OWNER, "WebHookUri": url,
                "Secret": SECRET, "Filters": hook.filter.split(' ').collect::<Vec<_>>(),
            }));
        }
        let text = Value::from(all).to_string();
        self.import(stage, &["webhooks", "import", "--no-verify"], &text).await
    }

    /// Starts a router and a worker, and waits until both are connected.
    pub(crate) async fn start(&mut self, stage: &Stage) -> Result<()> {
        self.start_more(stage, "router").await?;
        self.start_more(stage, "worker").await
    }

    /// Starts one more process of a role, and waits until it works: a console listens, the others
    /// are connected.
    pub(crate) async fn start_more(&mut self, stage: &Stage, role: &str) -> Result<()> {
        let mut service = stage.home.start(role, self.installation.command(&[role]))?;
        service.wait_for_line(ready_line(role)).await?;
        self.roles.push(service);
        Ok(())
    }

    /// Starts a console, and returns its address.
    pub(crate) async fn start_console(&mut self, stage: &Stage) -> Result<String> {
        let mut service = stage.home.start("console", self.installation.command(&["console"]))?;
        let line = service.wait_for_line("listening on http://").await?;
        self.roles.push(service);
        let address =
            line.split_once("listening on ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(address.context("a console did not say where it listens")?.to_owned())
    }

    /// Starts the router and the worker again with another value of a setting.
    pub(crate) async fn restart(&mut self, stage: &Stage, name: &str, value: &str) -> Result<()> {
        for service in self.roles.drain(..) {
            service.kill().await;
        }
        self.installation.set(name, value);
        self.start(stage).await
    }

    pub(crate) async fn publish(&mut self, load: &Load<'_>) -> Result<()> {
        let from = self.next;
        self.next += load.count;
        *self.owed.entry(load.group.to_owned()).or_default() += load.count * load.fan_out;
        let (event_type, subject) = match load.filter {
            "alerts" => ("alerts.edit", "alerts/a1"),
            "connections" => ("connections.edit", "connections/c1"),
            _ => ("tasks.execute", "tasks/t1"),
        };
        let event_types = match load.actions {
            1 => vec![event_type.to_owned()],
            actions => (0..actions).map(|action| format!("{}.a{action}", load.filter)).collect(),
        };
        let command = Command {
            amqp_url: self.amqp_url.clone(),
            event_types,
            subject: subject.to_owned(),
            from,
            count: load.count,
            size: load.size,
            in_flight: load.in_flight,
            rate: load.rate,
        };
        let answer: Answer = self.publisher.ask(&command, PUBLISH_TIMEOUT).await?;
        self.behind_ms = answer.behind_ms;
        Ok(())
    }

    /// Publishes events, and waits until all deliveries of their group have arrived.
    pub(crate) async fn deliver(
        &mut self,
        stage: &mut Stage,
        load: &Load<'_>,
        loss_timeout: Duration,
    ) -> Result<Seen> {
        stage.sink.send(&SinkCommand::Mark).await?;
        self.publish(load).await?;
        self.wait(stage, load.group, loss_timeout).await
    }

    /// Waits until all deliveries of a group have arrived.
    pub(crate) async fn wait(
        &mut self,
        stage: &mut Stage,
        group: &str,
        loss_timeout: Duration,
    ) -> Result<Seen> {
        let owed = self.owed.get(group).copied().unwrap_or_default();
        let seen = stage.sink.wait(group, owed, loss_timeout).await;
        self.roles.iter_mut().try_for_each(Service::check)?;
        seen
    }

    /// Waits until the queues of events and of first attempts are empty. Fails if they do not
    /// become shorter for `loss_timeout`.
    pub(crate) async fn drained(&self, loss_timeout: Duration) -> Result<()> {
        const QUEUES: [&str; 2] = ["fanfare.events", "fanfare.deliveries"];
        let amqp = Amqp::connect(&self.amqp_url).await?;
        let (mut least, mut since) = (u32::MAX, Instant::now());
        loop {
            let mut waiting = 0;
            for queue in QUEUES {
                waiting += amqp.queue_len(queue).await?;
            }
            if waiting == 0 {
                return Ok(());
            }
            if waiting < least {
                (least, since) = (waiting, Instant::now());
            }
            ensure!(
                since.elapsed() < loss_timeout,
                "{waiting} messages in {QUEUES:?} are not consumed"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Fails if a delivery was lost, arrived twice, or is not delivered according to the ledger.
    pub(crate) async fn check(&self, stage: &mut Stage) -> Result<()> {
        let delivered = format!(
            "-- bench_delivered
            select count(*) from (
                select distinct on (batch, webhook) state from attempts
                where received_at >= '{}'
                order by batch, webhook, entry desc
            ) last where state = 'delivered'",
            self.checked_since
        );
        let owed = self.owed.values().sum::<u64>() + self.others;
        let since = Instant::now();
        loop {
            let delivered: u64 = stage.sql(&self.name, &delivered)?.trim().parse()?;
            if delivered == owed {
                break;
            }
            ensure!(
                delivered < owed && since.elapsed() < LEDGER_TIMEOUT,
                "the ledger has {delivered} delivered deliveries instead of {owed}"
            );
            tokio::time::sleep(POLL).await;
        }
        for (group, owed) in &self.owed {
            let seen = stage.sink.seen(group).await?;
            let (distinct, twice) = (seen.distinct, seen.duplicates());
            ensure!(distinct == *owed, "{distinct} of {owed} deliveries of {group} arrived");
            ensure!(twice == 0, "{twice} deliveries of {group} arrived twice");
        }
        Ok(())
    }

    /// The id of a role's process.
    pub(crate) fn id(&self, role: &str) -> Result<u32> {
        let found = self.roles.iter().find(|service| service.name() == role);
        found.map(Service::id).with_context(|| format!("no {role} runs"))
    }

    /// The installation's database, past its processes; asked as some of them would.
    pub(crate) fn store(&self, plan_mode: PlanMode) -> Result<Store> {
        let keyring = Keyring::new(vec![("bench".to_owned(), [0; 32])]).context("no keys")?;
        Ok(Store::new(Config {
            url: self.database_url.clone(),
            max_connections: 1,
            plan_mode,
            application_name: "fanfare bench".to_owned(),
            keyring,
        })?)
    }

    /// Runs a command whose last argument is a file with this text.
    pub(crate) async fn import(&self, stage: &Stage, words: &[&str], text: &str) -> Result<()> {
        let file = self.file(stage, text)?;
        let path = file.to_string_lossy().into_owned();
        let words: Vec<&str> = words.iter().copied().chain([path.as_str()]).collect();
        self.fanfare(stage, &words).await?;
        Ok(fs::remove_file(&file)?)
    }

    /// Writes a file into the folder of the logs.
    pub(crate) fn file(&self, stage: &Stage, text: &str) -> Result<PathBuf> {
        let file = stage.home.logs().join(format!("{}.json", self.name));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// Runs a command; returns its largest observed memory.
    pub(crate) async fn fanfare(&self, stage: &Stage, words: &[&str]) -> Result<usage::Memory> {
        process::run(&stage.home, &self.installation, words).await
    }

    /// Stops its processes, and drops its database and its virtual host.
    pub(crate) async fn close(self, stage: &Stage) -> Result<()> {
        for service in self.roles {
            service.kill().await;
        }
        self.publisher.end().await;
        stage.servers.drop_vhost(&self.name)?;
        stage.servers.drop_database(&self.name)
    }
}

/// The CPU seconds of all processes, by name.
pub(crate) fn cpu(stage: &Stage, world: &World) -> Result<Vec<(&'static str, f64)>> {
    let servers = stage.servers.process_ids();
    let sum = |name| usage::sum(&servers, name).cpu;
    Ok(vec![
        ("router", usage::cpu(world.id("router")?)?),
        ("worker", usage::cpu(world.id("worker")?)?),
        ("RabbitMQ", sum("beam.smp")),
        ("PostgreSQL", sum("postgres")),
        ("publisher", usage::cpu(world.publisher.id())?),
        ("sink", usage::cpu(stage.sink.id())?),
    ])
}

/// Converts the amount for `count` to that for 1,000.
pub(crate) fn per_thousand(amount: f64, count: u64) -> f64 {
    amount * 1000.0 / number::float(count.max(1))
}
