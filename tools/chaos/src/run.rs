//! One run from its beginning to its verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fanfare_core::ids::WebhookId;
use fanfare_testkit::build;
use fanfare_testkit::service::Logs;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::Arguments;
use crate::act::Actor;
use crate::fault::Link;
use crate::installation::Site;
use crate::judge::{Evidence, Findings, judge};
use crate::ledger::{Ledger, Open};
use crate::processes::Processes;
use crate::publisher::{self, Control, Published};
use crate::report::Report;
use crate::schedule::schedule;
use crate::settle::{self, Settled};
use crate::sink::{self, Sink};
use crate::world::{WEBHOOKS, filters, owner_name, owner_of};

/// How often the progress is printed.
const PROGRESS: Duration = Duration::from_secs(10);

/// How often webhooks are resumed whose receiver was gone.
const RESUME: Duration = Duration::from_secs(10);

/// The load flows when this many notifications have arrived.
const FLOWING: usize = 50;

const FLOWS_WITHIN: Duration = Duration::from_mins(3);

/// A run with all its parts.
struct Run {
    site: Arc<Site>,
    processes: Arc<Processes>,
    sink: Arc<Sink>,
    control: Arc<Control>,
    webhooks: Vec<WebhookId>,
}

/// Runs, and returns whether nothing was found.
///
/// `has_own_mounts` says whether this program may mount what it likes.
pub(crate) async fn run(arguments: &Arguments, has_own_mounts: bool) -> Result<bool> {
    let logs = Logs::create(&build::workspace().join("target/chaos"))?;
    let result = break_and_judge(arguments, has_own_mounts, &logs).await;
    logs.end(!matches!(result, Ok(true)));
    result
}

async fn break_and_judge(arguments: &Arguments, has_own_mounts: bool, logs: &Logs) -> Result<bool> {
    let schedule = schedule(arguments.seed, arguments.length(), has_own_mounts);
    println!("{} faults in {} minutes, seed {}", schedule.len(), arguments.minutes, arguments.seed);
    let run = Run::start(arguments, has_own_mounts, logs).await?;
    let publishing = run.publish(arguments);
    let helpers = run.helpers();
    run.load_flows().await?;
    let actor = Actor::new(Arc::clone(&run.site), Arc::clone(&run.processes));
    Arc::clone(&actor).run(schedule).await?;

    let began_to_settle = Instant::now();
    println!("the faults are over");
    run.control.end();
    run.sink.calm();
    actor.repair().await;
    let published = publishing.await.context("the publisher panicked")??;
    let settled = settle::settle(&run.site, &published, began_to_settle).await?;
    helpers.iter().for_each(JoinHandle::abort);
    run.processes.finish().await;

    let evidence = run.evidence(published, &actor, &settled).await?;
    let findings = judge(&evidence);
    let report = Report { arguments, evidence: &evidence, findings: &findings, settled: &settled };
    println!("{}", report.page());
    print_failures(&findings);
    if let Some(file) = &arguments.report {
        report.write(file)?;
    }
    Ok(findings.passed())
}

impl Run {
    async fn start(arguments: &Arguments, has_own_mounts: bool, logs: &Logs) -> Result<Self> {
        println!("starting servers and processes");
        let sink = Arc::new(Sink::start(arguments.seed).await);
        let site = Site::start(logs, arguments.binary.clone(), sink.addr(), has_own_mounts).await?;
        let site = Arc::new(site);
        let webhooks = add_webhooks(&site).await?;
        let processes = Arc::new(Processes::start(&site).await?);
        Ok(Self { site, processes, sink, control: Arc::default(), webhooks })
    }

    fn publish(&self, arguments: &Arguments) -> JoinHandle<Result<Published>> {
        let url = self.site.commands().setting("FANFARE_AMQP_URL").unwrap_or_default().to_owned();
        let (seed, rate, control) = (arguments.seed, arguments.rate, Arc::clone(&self.control));
        tokio::spawn(async move { publisher::run(&url, seed, rate, control).await })
    }

    /// What goes on beside the faults, until it is aborted.
    fn helpers(&self) -> [JoinHandle<()>; 3] {
        let (site, processes) = (Arc::clone(&self.site), Arc::clone(&self.processes));
        let supervisor = tokio::spawn(Arc::clone(&self.processes).supervise(Arc::clone(&site)));
        let resuming = tokio::spawn(resume_webhooks(Arc::clone(&site)));
        let (control, sink) = (Arc::clone(&self.control), Arc::clone(&self.sink));
        let progress = tokio::spawn(async move {
            let mut tick = interval(PROGRESS);
            loop {
                tick.tick().await;
                processes.search_logs();
                let open = match Open::count(&site).await {
                    Ok(open) => format!("{} open, {} dead", open.deliveries, open.dead),
                    Err(_) => "the database does not answer".to_owned(),
                };
                println!("== {} confirmed, {} POSTs, {open}", control.confirmed(), sink.count());
            }
        });
        [supervisor, resuming, progress]
    }

    /// Waits until notifications arrive, so that the faults hit work.
    async fn load_flows(&self) -> Result<()> {
        let since = Instant::now();
        while self.sink.count() < FLOWING {
            ensure!(since.elapsed() < FLOWS_WITHIN, "no load flows within {FLOWS_WITHIN:?}");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn evidence(
        &self,
        published: Published,
        actor: &Actor,
        settled: &Settled,
    ) -> Result<Evidence> {
        let mut failures = self.processes.failures();
        failures.extend(actor.failures());
        failures
            .extend(self.sink.strange().into_iter().map(|it| format!("a strange request: {it}")));
        failures.extend(settled.failure.clone());
        Ok(Evidence {
            published,
            ledger: Ledger::read(&self.site).await?,
            posts: self.sink.posts(),
            letters: settled.letters.clone(),
            refused: settled.refused.clone(),
            incidents: actor.incidents(),
            skipped: actor.skipped(),
            webhooks: self.webhooks.clone(),
            failures,
        })
    }
}

/// Adds all webhooks, those of each owner side by side; returns their ids.
async fn add_webhooks(site: &Arc<Site>) -> Result<Vec<WebhookId>> {
    let mut adding = Vec::new();
    let mut webhooks = Vec::new();
    for webhook in 0..WEBHOOKS {
        let site = Arc::clone(site);
        adding.push(tokio::spawn(async move { add_webhook(&site, webhook).await }));
        if owner_of(webhook) != owner_of(webhook + 1) {
            for added in adding.drain(..) {
                webhooks.push(added.await??);
            }
        }
    }
    Ok(webhooks)
}

async fn add_webhook(site: &Site, webhook: usize) -> Result<WebhookId> {
    let host = site.proxy(Link::Receivers(owner_of(webhook))).await?.addr();
    let url = format!("http://{host}{}", sink::path(webhook));
    let owner = owner_name(owner_of(webhook));
    let mut args = vec!["webhooks", "add", "--no-verify", "--owner", &owner, "--url", &url];
    for filter in filters(webhook) {
        args.extend(["--filter", filter]);
    }
    let added = site.commands().json(&args).await?;
    let id = added["Id"].as_str().and_then(|id| id.parse().ok());
    id.with_context(|| format!("a new webhook has no id: {added}"))
}

/// Resumes webhooks that were paused since their receiver answered 410, as their owners do.
async fn resume_webhooks(site: Arc<Site>) {
    loop {
        sleep(RESUME).await;
        // The command may fail while something is broken; the next one finds the webhook again.
        let Ok(paused) = site.sql("select id from webhooks where paused_reason = 'gone'").await
        else {
            continue;
        };
        for id in paused.lines() {
            let _ = site.commands().run(&["webhooks", "resume", id], None).await;
        }
    }
}

/// How many failures of a kind are printed.
const SHOWN: usize = 20;

fn print_failures(findings: &Findings) {
    for (kind, failures) in &findings.failures {
        eprintln!("FAILED {kind}: {}", failures.len());
        failures.iter().take(SHOWN).for_each(|failure| eprintln!("    {failure}"));
    }
}
