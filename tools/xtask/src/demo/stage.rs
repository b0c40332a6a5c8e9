//! All that the demo starts. It is ended as a whole.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use fanfare_testkit::Installation;
use fanfare_testkit::build::workspace;
use fanfare_testkit::installation::ready_line;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::service::{Home, Logs, Service};
use tokio::task::{JoinHandle, spawn_blocking};

use super::ledger::Registered;
use super::progress::{long_step, step};
use super::sample::{ATTEMPTS, HOOKS, Hook, Manner};

/// The database and the virtual host.
const NAME: &str = "demo";

/// The processes that run, and the files on the disk.
#[derive(Default)]
pub(crate) struct Stage {
    /// Whether the result was as expected, once that is known.
    pub(crate) is_as_expected: Option<bool>,
    /// The processes of Fanfare and the receivers, in the order of their start.
    pub(crate) services: Vec<Service>,
    starting: Option<JoinHandle<Result<Servers>>>,
    servers: Option<Servers>,
    logs: Option<Logs>,
}

/// The installation of the demo, and the folder of its services.
#[derive(Debug)]
pub(crate) struct Fanfare {
    pub(crate) installation: Installation,
    pub(crate) home: Home,
}

impl Fanfare {
    /// Changes a setting of all commands that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.installation.set(name, value);
    }

    /// Runs a command that must succeed, and returns its output.
    pub(crate) async fn run(&self, arguments: &[&str], stdin: Option<&str>) -> Result<String> {
        self.installation.run(arguments, stdin).await
    }
}

impl Stage {
    /// Starts private servers, and returns the installation that uses them.
    pub(crate) async fn start_servers(&mut self, binary: PathBuf) -> Result<Fanfare> {
        let folder = workspace().join("target/demo");
        let logs = self.logs.insert(Logs::create(&folder)?);
        eprintln!("the output of all processes goes to {}", logs.folder().display());

        let starting = self.starting.insert(spawn_blocking(move || Servers::start(&folder)));
        let servers = long_step("getting PostgreSQL and RabbitMQ to run", starting).await;
        self.starting = None;
        let servers = self.servers.insert(servers??);
        let endpoints = servers.endpoints().clone();
        let create = spawn_blocking(move || Installation::create(binary, &endpoints, NAME));
        let created = step("creating a database and a virtual host", create).await??;
        let installation = configured(created)?.in_folder_of_servers(servers.folder());
        Ok(Fanfare { installation, home: Home::new(servers, logs) })
    }

    /// Starts receivers, registers their webhooks, and starts a router and two workers.
    pub(crate) async fn start_services(&mut self, fanfare: &Fanfare) -> Result<Vec<Registered>> {
        let secret = random_hex(16)?;
        let mut urls = Vec::new();
        for receiver in Manner::ALL {
            let own = receiver.arguments();
            let mut words = vec!["listen", "--port", "0", "--json", "--secret", &secret];
            words.extend(own.iter().map(String::as_str));
            let service = self.start(fanfare, &receiver.slug(), &words)?;
            let line = step("starting the receivers", service.wait_for_line("listening on "));
            let line = line.await?;
            let (_, url) = line.split_once("listening on ").unwrap_or_default();
            urls.push((receiver, format!("{url}/hook")));
        }
        let mut registered = Vec::new();
        for hook in &HOOKS {
            let url = urls.iter().find(|(receiver, _)| *receiver == hook.receiver);
            let (_, url) = url.context("a webhook of the sample has no receiver")?;
            let id = register(fanfare, hook, url, &secret);
            let id = step("registering webhooks", id).await?;
            registered.push(Registered { hook, id });
        }
        for (name, role) in [("router", "router"), ("worker-1", "worker"), ("worker-2", "worker")] {
            self.start_role(fanfare, name, role).await?;
        }
        Ok(registered)
    }

    /// Commands for trying things by hand.
    pub(crate) fn hints(&self, fanfare: &Fanfare, all: &[Registered]) -> Result<String> {
        let settings = fanfare.installation.settings().iter();
        let exports = settings.map(|(name, value)| format!("export {name}='{value}'\n"));
        let exports: String = exports.collect();
        let file = fanfare.home.logs().join("env.sh");
        let alias = format!("alias fanfare='{}'\n", fanfare.installation.binary().display());
        fs::write(&file, format!("{exports}{alias}"))
            .with_context(|| format!("writing {}", file.display()))?;
        let paused = all.iter().find(|registered| registered.hook.paused);
        let paused = paused.map(|registered| registered.id.as_str()).unwrap_or_default();
        let worker = self.services.last().map(Service::id).unwrap_or_default();
        let log = self.services.first().map(|service| service.log().display().to_string());
        Ok(format!(
            "To try things by hand, in another terminal:\n\n\
             {exports}{alias}\n\
             or all of that at once: . {file}\n\n\
             fanfare deliveries list             # what was sent, and how it went\n\
             fanfare webhooks resume {paused}\n\
             fanfare dead-letters list           # what was given up\n\
             fanfare dead-letters replay --all   # send it again\n\
             tail -f {log}\n\
             kill {worker}                          # a worker: it is started again, nothing is lost\n\
             # an event of your own, with another id each time:\n\
             echo '{EXAMPLE}' | fanfare publish -",
            file = file.display(),
            log = log.unwrap_or_default(),
        ))
    }

    /// Ends everything and waits until it is gone. The logs stay if something has `failed`.
    pub(crate) async fn end(&mut self, failed: bool) {
        if let Some(starting) = self.starting.take() {
            // Servers that are still starting can be ended only once they run.
            let started = step("waiting for the start of the servers, to end them", starting);
            self.servers = started.await.ok().and_then(Result::ok);
        }
        self.services.iter().for_each(Service::terminate);
        step("ending the processes", async {
            for service in self.services.drain(..) {
                service.stopped().await;
            }
        })
        .await;
        if let Some(servers) = self.servers.take() {
            // This fails only if the task panicked, and then the keeper ends the servers.
            let _ = step("ending the servers", spawn_blocking(move || servers.stop())).await;
        }
        if let Some(logs) = self.logs.take() {
            logs.end(failed);
        }
    }

    /// Stops a process, and waits until it has ended.
    pub(crate) async fn stop(&mut self, name: &str) {
        if let Some(index) = self.services.iter().position(|service| service.name() == name) {
            let service = self.services.remove(index);
            service.terminate();
            step(&format!("stopping the {name}"), service.stopped()).await;
        }
    }

    /// Starts a process of a role, and waits until it works.
    pub(crate) async fn start_role(
        &mut self,
        fanfare: &Fanfare,
        name: &str,
        role: &str,
    ) -> Result<()> {
        let ready = self.start(fanfare, name, &[role])?.wait_for_line(ready_line(role));
        step(&format!("starting the {name}"), ready).await?;
        Ok(())
    }

    /// Starts a process.
    pub(crate) fn start(
        &mut self,
        fanfare: &Fanfare,
        name: &str,
        words: &[&str],
    ) -> Result<&mut Service> {
        self.services.push(fanfare.home.start(name, fanfare.installation.command(words))?);
        self.services.last_mut().context("a service was just added")
    }
}

/// An event for people to change and publish.
const EXAMPLE: &str = r#"{"specversion":"1.0","id":"mine-1","source":"/me","type":"alerts.edit","subject":"alerts/a96e0f8d2c4","data":{"Name":"Mine"}}"#;

/// A short retry schedule that people can watch, and a key of the demo's own.
fn configured(installation: Installation) -> Result<Installation> {
    // 42 random digits and one whose last bits are zero make 32 bytes in base64.
    let key = format!("demo:{}A=", random_hex(21)?);
    Ok(installation
        .with("FANFARE_SECRET_KEYS", &key)
        .with("FANFARE_RETRY_FIRST", "1s")
        .with("FANFARE_RETRY_MAX_DELAY", "2s")
        .with("FANFARE_RETRY_ATTEMPTS", &ATTEMPTS.to_string()))
}

async fn register(fanfare: &Fanfare, hook: &Hook, url: &str, secret: &str) -> Result<String> {
    let mut words = vec!["webhooks", "add", "--owner", hook.owner, "--url", url];
    words.extend(["--secret", secret]);
    for filter in hook.filters {
        words.extend(["--filter", filter]);
    }
    if hook.paused {
        words.push("--paused");
    }
    let webhook = fanfare.installation.json(&words).await?;
    let id = webhook["Id"].as_str().context("a new webhook has no Id")?;
    Ok(id.to_owned())
}

fn random_hex(n_bytes: usize) -> Result<String> {
    let mut bytes = vec![0; n_bytes];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("reading random bytes from /dev/urandom")?;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.concat())
}
