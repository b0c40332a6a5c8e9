//! One installation: a database and a virtual host of its own, webhooks at the sink, a router, a
//! worker, and a publisher. It knows what it owes, so that it can say at the end whether anything
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
const PUBLISH_PATIENCE: Duration = Duration::from_mins(10);

/// The last rows are written after the sink has answered.
const LEDGER_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// A webhook to register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook<'a> {
    /// How the sink answers it.
    pub(crate) manner: Manner,
    /// The name that it is counted under.
    pub(crate) group: &'a str,
    /// The filters that it asks for, with spaces in between.
    pub(crate) filter: &'a str,
}

/// Events to publish and deliver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Their filter, the first part of their type.
    pub(crate) filter: &'a str,
    /// Their actions, which they have in turn: `a0`, `a1` and so on; 1 for the usual one alone.
    pub(crate) actions: u64,
    /// The group whose webhooks get them.
    pub(crate) group: &'a str,
    /// How many webhooks that are.
    pub(crate) fan_out: u64,
    pub(crate) count: u64,
    /// Events a second; as fast as the broker confirms when `None`.
    pub(crate) rate: Option<f64>,
    /// The bytes of each one's data.
    pub(crate) size: usize,
    /// Events without a confirm at a time.
    pub(crate) in_flight: usize,
}

/// An installation that works.
pub(crate) struct World {
    pub(crate) name: String,
    installation: Installation,
    amqp_url: String,
    database_url: String,
    pub(crate) publisher: Helper,
    roles: Vec<Service>,
    n_hooks: usize,
    next: u64,
    /// How far behind its pace the publisher was at worst, in milliseconds, in the last load.
    pub(crate) behind_ms: f64,
    /// Deliveries that the sink must see, by group.
    owed: BTreeMap<String, u64>,
    /// Deliveries that are in the ledger already, or of webhooks that nobody waits for.
    pub(crate) others: u64,
}

impl World {
    /// An installation without webhooks, whose processes do not run yet. The sink forgets all others.
    pub(crate) async fn new(stage: &mut Stage, settings: &[(&str, &str)]) -> Result<Self> {
        let name = stage.next_name();
        stage.sink.tell(&SinkCommand::Reset).await?;
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
        let answer: Answer = self.publisher.ask(&command, PUBLISH_PATIENCE).await?;
        self.behind_ms = answer.behind_ms;
        Ok(())
    }

    /// Publishes events, and waits until all that is owed to their group has come.
    pub(crate) async fn deliver(
        &mut self,
        stage: &mut Stage,
        load: &Load<'_>,
        patience: Duration,
    ) -> Result<Seen> {
        stage.sink.tell(&SinkCommand::Mark).await?;
        self.publish(load).await?;
        self.wait(stage, load.group, patience).await
    }

    /// Waits until all that is owed to a group has come.
    pub(crate) async fn wait(
        &mut self,
        stage: &mut Stage,
        group: &str,
        patience: Duration,
    ) -> Result<Seen> {
        let owed = self.owed.get(group).copied().unwrap_or_default();
        let come = stage.sink.wait(group, owed, patience).await;
        self.roles.iter_mut().try_for_each(Service::check)?;
        come
    }

    /// Waits until no event waits for the router and no first attempt for the worker.
    pub(crate) async fn drained(&self, patience: Duration) -> Result<()> {
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
            ensure!(since.elapsed() < patience, "{waiting} messages are not taken from {QUEUES:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// An error if anything was lost, or came twice, or is not known to the ledger as delivered.
    pub(crate) async fn check(&self, stage: &mut Stage) -> Result<()> {
        const DELIVERED: &str = "-- bench_delivered
            select count(*) from (
                select distinct on (batch, webhook) state from attempts
                order by batch, webhook, entry desc
            ) last where state = 'delivered'";
        let owed = self.owed.values().sum::<u64>() + self.others;
        let since = Instant::now();
        loop {
            let delivered: u64 = stage.sql(&self.name, DELIVERED)?.trim().parse()?;
            if delivered == owed {
                break;
            }
            ensure!(
                delivered < owed && since.elapsed() < LEDGER_PATIENCE,
                "the ledger has {delivered} deliveries as delivered, and {owed} are owed"
            );
            tokio::time::sleep(POLL).await;
        }
        for (group, owed) in &self.owed {
            let seen = stage.sink.seen(group).await?;
            let (distinct, twice) = (seen.distinct, seen.duplicates());
            ensure!(distinct == *owed, "{distinct} of {owed} deliveries of {group} came");
            ensure!(twice == 0, "{twice} deliveries of {group} came twice");
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

    /// Runs a command that takes a file.
    pub(crate) async fn import(&self, stage: &Stage, words: &[&str], text: &str) -> Result<()> {
        let file = self.file(stage, text)?;
        let path = file.to_string_lossy().into_owned();
        let words: Vec<&str> = words.iter().copied().chain([path.as_str()]).collect();
        self.fanfare(stage, &words).await?;
        Ok(fs::remove_file(&file)?)
    }

    /// Writes a file that goes with the logs.
    pub(crate) fn file(&self, stage: &Stage, text: &str) -> Result<PathBuf> {
        let file = stage.home.logs().join(format!("{}.json", self.name));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// Runs a command; returns the most memory that it was seen with.
    pub(crate) async fn fanfare(&self, stage: &Stage, words: &[&str]) -> Result<usage::Memory> {
        process::run(&stage.home, &self.installation, words).await
    }

    /// Ends its processes, and drops its database and its virtual host.
    pub(crate) async fn close(self, stage: &Stage) -> Result<()> {
        for service in self.roles {
            service.kill().await;
        }
        self.publisher.end().await;
        stage.servers.drop_vhost(&self.name)?;
        stage.servers.drop_database(&self.name)
    }
}

/// CPU seconds of all that takes part, by name.
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

/// What an amount is for each 1,000 of `count`.
pub(crate) fn per_thousand(amount: f64, count: u64) -> f64 {
    amount * 1000.0 / number::float(count.max(1))
}
