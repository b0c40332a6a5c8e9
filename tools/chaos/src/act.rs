//! Makes the faults of a schedule happen, and ends them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fanfare_testkit::servers::Servers;
use fanfare_testkit::{Break, Endpoints};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::{Time, now};
use crate::fault::{Fault, Link, LinkFault, Part, Queue, Resource};
use crate::installation::{NAME, Site, blocking};
use crate::processes::Processes;
use crate::schedule::Planned;

/// The time in which a fault must be ended, once it is to end.
const END_WITHIN: Duration = Duration::from_mins(3);

const PAUSE: Duration = Duration::from_millis(500);

/// The time between two tries to repair queues.
const REPAIR_PAUSE: Duration = Duration::from_secs(3);

/// A fault that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incident {
    pub(crate) fault: Fault,
    pub(crate) from: Time,
    /// When its part worked again.
    pub(crate) to: Time,
}

impl Incident {
    pub(crate) fn part(&self) -> Option<Part> {
        self.fault.part()
    }
}

/// Makes faults, and remembers them.
pub(crate) struct Actor {
    site: Arc<Site>,
    processes: Arc<Processes>,
    began: Instant,
    /// Held while the broker, or the database, is broken or started again.
    broker_turn: tokio::sync::Mutex<()>,
    database_turn: tokio::sync::Mutex<()>,
    incidents: Mutex<Vec<Incident>>,
    failures: Mutex<Vec<String>>,
    /// Faults that could not be made, because their part was broken otherwise.
    skipped: Mutex<usize>,
}

impl Actor {
    pub(crate) fn new(site: Arc<Site>, processes: Arc<Processes>) -> Arc<Self> {
        let (broker_turn, database_turn) = Default::default();
        let (incidents, failures, skipped) = Default::default();
        Arc::new(Self {
            site,
            processes,
            began: Instant::now(),
            broker_turn,
            database_turn,
            incidents,
            failures,
            skipped,
        })
    }

    /// Makes all faults at their times, and returns when all have ended.
    pub(crate) async fn run(self: Arc<Self>, schedule: Vec<Planned>) -> Result<()> {
        let mut faults = JoinSet::new();
        for planned in schedule {
            sleep_until(self.began + planned.at).await;
            faults.spawn(Arc::clone(&self).make(planned));
        }
        while let Some(ended) = faults.join_next().await {
            ended.context("a fault panicked")?;
        }
        Ok(())
    }

    async fn make(self: Arc<Self>, planned: Planned) {
        let Planned { fault, lasts, .. } = planned;
        let from = now();
        self.say(&format!("{fault}, for {:.1} s", lasts.as_secs_f32()));
        match self.perform_in_turn(fault, lasts).await {
            Ok(()) => {
                if let Ok(mut incidents) = self.incidents.lock() {
                    incidents.push(Incident { fault, from, to: now() });
                }
            }
            Err(error) => {
                self.say(&format!("{fault}: not possible now: {error:#}"));
                if let Ok(mut skipped) = self.skipped.lock() {
                    *skipped += 1;
                }
            }
        }
    }

    fn say(&self, what: &str) {
        println!("{:8.1} s  {what}", self.began.elapsed().as_secs_f32());
    }

    /// A server that takes longer to start than the schedule allows for gets the time.
    async fn perform_in_turn(&self, fault: Fault, lasts: Duration) -> Result<()> {
        let turn = match fault.resource() {
            Resource::Broker => &self.broker_turn,
            Resource::Database => &self.database_turn,
            _ => return self.perform(fault, lasts).await,
        };
        let _turn = turn.try_lock().context("it is being started again")?;
        self.perform(fault, lasts).await
    }

    /// Makes a fault and ends it. An error if it could not be made.
    async fn perform(&self, fault: Fault, lasts: Duration) -> Result<()> {
        match fault {
            Fault::Kill(at) => self.processes.kill(at).await,
            Fault::Terminate(at) => self.processes.terminate(at).await,
            Fault::Stop(at) => self.processes.stop(at, lasts).await,
            Fault::StepClock(at, minutes) => {
                self.site.set_clock(at, minutes)?;
                sleep(lasts).await;
                self.site.set_clock(at, 0)?;
            }
            Fault::Link(link, how) => self.link(link, how, lasts).await?,
            Fault::BrokerKilled | Fault::BrokerRestarted => {
                self.restart_broker(fault == Fault::BrokerKilled, lasts).await?;
            }
            Fault::DatabaseCrashed | Fault::DatabaseRestarted => {
                self.restart_database(fault == Fault::DatabaseCrashed, lasts).await?;
            }
            Fault::DatabaseReadOnly => {
                self.at_servers(|it| it.set_read_only(true)).await?;
                sleep(lasts).await;
                self.end(fault, |it| it.set_read_only(false)).await;
            }
            Fault::DatabaseDiskFull => self.fill_disk(fault, lasts).await?,
            Fault::Alarm(shortage) => {
                self.at_servers(move |it| it.raise_alarm(shortage)).await?;
                sleep(lasts).await;
                self.end(fault, move |it| it.clear_alarm(shortage)).await;
            }
            Fault::QueueBroken(queue, how) => self.break_queue(queue, how, lasts).await?,
            Fault::QueuePurged(queue) => {
                self.at_servers(move |it| it.purge_queue(NAME, queue)).await?;
            }
            Fault::QueueDeleted(queue) => {
                self.at_servers(move |it| it.delete_queue(NAME, queue)).await?;
            }
            Fault::ConnectionsClosed => self.at_servers(|it| it.close_connections(NAME)).await?,
            Fault::BackendKilled => self.at_servers(|it| it.kill_backend(NAME)).await?,
            Fault::BackendsTerminated => self.at_servers(|it| it.terminate_backends(NAME)).await?,
        }
        Ok(())
    }

    async fn fill_disk(&self, fault: Fault, lasts: Duration) -> Result<()> {
        let disk = self.site.disk.clone().context("the database has no disk that can be full")?;
        let to_fill = disk.clone();
        blocking(move || to_fill.fill()).await?;
        sleep(lasts).await;
        self.end(fault, move |_| disk.make_room()).await;
        Ok(())
    }

    async fn link(&self, link: Link, how: LinkFault, lasts: Duration) -> Result<()> {
        {
            let mut proxy = self.site.proxy(link).await?;
            match how {
                LinkFault::Cut => proxy.cut().await,
                LinkFault::Silent => proxy.freeze(),
                LinkFault::Slow(milliseconds) => proxy.delay(Duration::from_millis(milliseconds)),
                LinkFault::Reset => proxy.reset(),
            }
        }
        if how != LinkFault::Reset {
            sleep(lasts).await;
            self.site.proxy(link).await?.resume();
        }
        Ok(())
    }

    async fn restart_broker(&self, kill: bool, away: Duration) -> Result<()> {
        let end = if kill { Servers::kill_broker } else { Servers::stop_broker };
        self.site.with_servers(end).await?;
        sleep(away).await;
        if let Err(error) = self.site.with_servers(Servers::start_broker).await {
            self.fail(format!("RabbitMQ did not start again: {error:#}"));
        }
        Ok(())
    }

    async fn restart_database(&self, crash: bool, away: Duration) -> Result<()> {
        let end = if crash { Servers::kill_database } else { Servers::stop_database };
        self.site.with_servers(end).await?;
        sleep(away).await;
        if let Err(error) = self.site.with_servers(Servers::start_database).await {
            self.fail(format!("PostgreSQL did not start again: {error:#}"));
        }
        Ok(())
    }

    /// A queue whose data are gone stays broken until it is repaired; a router does it after two
    /// minutes, and an operator at once.
    async fn break_queue(&self, queue: Queue, how: Break, lasts: Duration) -> Result<()> {
        self.at_servers(move |it| it.break_queue(NAME, queue, how)).await?;
        sleep(lasts).await;
        match how {
            Break::Dead => self.repair().await,
            // It may have been declared again, or started with its broker: then it answers already.
            Break::Silent => {
                let _ = self.at_servers(move |it| it.resume_queue(NAME, queue)).await;
            }
        }
        Ok(())
    }

    /// Repairs all broken queues, as an operator does: until each answers. A queue that can't be
    /// repaired is no failure here, because what is lost with it would be found at the end.
    pub(crate) async fn repair(&self) {
        let repaired = timeout(END_WITHIN, async {
            while let Err(error) = self.repair_once().await {
                self.say(&format!("queues can't be repaired yet: {error:#}"));
                sleep(REPAIR_PAUSE).await;
            }
        });
        if repaired.await.is_err() {
            self.say("broken queues are left as they are");
        }
    }

    /// Repairs what can be repaired now. An error if a queue is still broken.
    async fn repair_once(&self) -> Result<()> {
        let output = self.site.commands().output(&["doctor", "--repair", "--json"], None).await?;
        let checks: Vec<Value> = serde_json::from_str(&output.stdout)
            .with_context(|| format!("doctor ended with {:?}", output.stderr))?;
        let broken = broken_queues(&checks);
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    }

    async fn at_servers(
        &self,
        work: impl FnOnce(&Endpoints) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let endpoints = self.site.endpoints().clone();
        blocking(move || work(&endpoints)).await
    }

    /// Ends a fault; what ends it is repeated until it works.
    async fn end(
        &self,
        fault: Fault,
        work: impl Fn(&Endpoints) -> Result<()> + Clone + Send + 'static,
    ) {
        let ended = timeout(END_WITHIN, async {
            while self.at_servers(work.clone()).await.is_err() {
                sleep(PAUSE).await;
            }
        });
        if ended.await.is_err() {
            self.fail(format!("{fault} did not end within {END_WITHIN:?}"));
        }
    }

    fn fail(&self, failure: String) {
        eprintln!("FAILURE: {failure}");
        if let Ok(mut failures) = self.failures.lock() {
            failures.push(failure);
        }
    }

    /// The faults so far that have ended.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.incidents.lock().map(|it| it.clone()).unwrap_or_default()
    }

    pub(crate) fn skipped(&self) -> usize {
        self.skipped.lock().map_or(0, |it| *it)
    }

    /// What could not be mended.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().map(|it| it.clone()).unwrap_or_default()
    }
}

/// The checks of `fanfare doctor` that say that a queue is broken, or that the broker can't be asked.
/// Others fail while something else is broken, such as the one of the directory.
fn broken_queues(checks: &[Value]) -> Vec<String> {
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let concerns_queues = |what: &str| what == "broker" || what.starts_with("queue");
    let failed = checks.iter().filter(|check| check["ok"] != true);
    let failed = failed.map(|check| (text(check, "check"), text(check, "detail")));
    let broken = failed.filter(|(what, _)| concerns_queues(what));
    broken.map(|(what, detail)| format!("{what}: {detail}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_checks_of_queues_say_that_queues_are_broken() {
        let check = |what: &str, ok: bool| json!({ "check": what, "ok": ok, "detail": "why" });
        let checks = [
            check("directory", false),
            check("database", false),
            check("queue fanfare.retries", false),
            check("queue fanfare.delay.00", true),
        ];
        assert_eq!(broken_queues(&checks), ["queue fanfare.retries: why"]);
        assert_eq!(broken_queues(&[check("broker", false)]), ["broker: why"]);
    }
}
