//! The processes of the installation, and their supervisor: what was ended on purpose starts again
//! at once, and what ends by itself is a failure.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fanfare_testkit::installation::ready_line;
use fanfare_testkit::service::{Service, Signal, tail};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::installation::Site;
use crate::spec::{PROCESSES, ProcessIndex};

/// The product promises to end within 30 seconds of SIGTERM; a busy machine gets a few more.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// How often processes are looked at.
const POLL: Duration = Duration::from_millis(50);

/// How a process was made to end.
#[derive(Clone, Copy)]
enum Ending {
    Killed,
    Terminated { at: Instant },
}

struct Slot {
    service: Service,
    ending: Option<Ending>,
    /// How often it was started.
    starts: u64,
}

/// All processes.
pub(crate) struct Processes {
    slots: Vec<Mutex<Slot>>,
    /// Held while something happens to a process on purpose: one thing after the other.
    turns: [Mutex<()>; PROCESSES.len()],
    failures: std::sync::Mutex<Vec<String>>,
    /// How far each log was searched.
    searched: std::sync::Mutex<HashMap<&'static str, u64>>,
}

impl Processes {
    /// Starts all processes and waits until they work.
    pub(crate) async fn start(site: &Site) -> Result<Self> {
        let mut slots = Vec::new();
        for (at, spec) in PROCESSES.iter().enumerate() {
            let mut service = spawn(site, at).await?;
            service.wait_for_line(ready_line(spec.role)).await?;
            slots.push(Mutex::new(Slot { service, ending: None, starts: 1 }));
        }
        let (turns, failures, searched) = Default::default();
        Ok(Self { slots, turns, failures, searched })
    }

    /// Starts ended processes again, until it is dropped.
    pub(crate) async fn supervise(self: Arc<Self>, site: Arc<Site>) {
        loop {
            for (at, spec) in PROCESSES.iter().enumerate() {
                if let Err(error) = self.look(&site, at).await {
                    self.fail(format!("{}: {error:#}", spec.name));
                }
            }
            sleep(POLL).await;
        }
    }

    async fn look(&self, site: &Site, at: ProcessIndex) -> Result<()> {
        let mut slot = self.slots[at].lock().await;
        if let Some(status) = slot.service.ended()? {
            self.judge_end(at, slot.ending, status);
            slot.service = spawn(site, at).await?;
            slot.ending = None;
            slot.starts += 1;
        } else if matches!(slot.ending, Some(Ending::Terminated { at }) if at.elapsed() > STOP_TIMEOUT)
        {
            let name = PROCESSES[at].name;
            self.fail(format!("{name} did not end within {STOP_TIMEOUT:?} of SIGTERM"));
            slot.service.signal(Signal::KILL);
            slot.ending = Some(Ending::Killed);
        }
        Ok(())
    }

    fn judge_end(&self, at: ProcessIndex, ending: Option<Ending>, status: ExitStatus) {
        let name = PROCESSES[at].name;
        match ending {
            Some(Ending::Killed) => {}
            Some(Ending::Terminated { .. }) if status.success() => {}
            Some(Ending::Terminated { .. }) => {
                self.fail(format!("{name} ended with {status} after SIGTERM"));
            }
            None => self.fail(format!("{name} ended by itself with {status}")),
        }
    }

    /// Ends a process by SIGKILL, and waits until it was started again.
    pub(crate) async fn kill(&self, at: ProcessIndex) {
        self.end(at, Signal::KILL, |_| Ending::Killed).await;
    }

    /// Ends a process by SIGTERM, and waits until it was started again.
    pub(crate) async fn terminate(&self, at: ProcessIndex) {
        self.end(at, Signal::TERM, |at| Ending::Terminated { at }).await;
    }

    async fn end(&self, at: ProcessIndex, signal: Signal, ending: fn(Instant) -> Ending) {
        let _turn = self.turns[at].lock().await;
        let starts = {
            let mut slot = self.slots[at].lock().await;
            slot.ending = Some(ending(Instant::now()));
            slot.service.signal(signal);
            slot.starts
        };
        while self.slots[at].lock().await.starts == starts {
            sleep(POLL).await;
        }
    }

    /// Stops a process for some time, by SIGSTOP, and lets it continue.
    pub(crate) async fn stop(&self, at: ProcessIndex, time: Duration) {
        let _turn = self.turns[at].lock().await;
        self.slots[at].lock().await.service.signal(Signal::STOP);
        sleep(time).await;
        self.slots[at].lock().await.service.signal(Signal::CONT);
    }

    /// Ends all processes by SIGTERM; the supervisor must not run any more.
    pub(crate) async fn finish(&self) {
        for slot in &self.slots {
            slot.lock().await.service.terminate();
        }
        let since = Instant::now();
        for (at, slot) in self.slots.iter().enumerate() {
            let mut slot = slot.lock().await;
            loop {
                match slot.service.ended() {
                    Ok(Some(status)) => {
                        let ending = Ending::Terminated { at: since };
                        break self.judge_end(at, Some(ending), status);
                    }
                    Ok(None) if since.elapsed() < STOP_TIMEOUT => sleep(POLL).await,
                    Ok(None) => {
                        let name = PROCESSES[at].name;
                        break self.fail(format!("{name} did not end at the end of the run"));
                    }
                    Err(error) => break self.fail(format!("{error:#}")),
                }
            }
        }
        self.search_logs();
    }

    /// Looks for panics in what the processes logged since the last search.
    pub(crate) fn search_logs(&self) {
        let Ok(mut searched) = self.searched.lock() else { return };
        for (spec, slot) in PROCESSES.iter().zip(&self.slots) {
            let Ok(slot) = slot.try_lock() else { continue };
            let from = searched.entry(spec.name).or_default();
            let Ok(new) = read_from(slot.service.log(), *from) else { continue };
            // A line that is being written is read with the next search.
            let whole = new.rfind('\n').map_or(0, |at| at + 1);
            *from += whole as u64;
            for line in new[..whole].lines().filter(|line| line.contains("panicked")) {
                self.fail(format!("{} panicked: {line}", spec.name));
            }
        }
    }

    /// What went wrong with processes so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().map(|it| it.clone()).unwrap_or_default()
    }

    fn fail(&self, failure: String) {
        eprintln!("FAILURE: {failure}");
        if let Ok(mut failures) = self.failures.lock() {
            failures.push(failure);
        }
    }
}

async fn spawn(site: &Site, at: ProcessIndex) -> Result<Service> {
    let name = PROCESSES[at].name;
    let command = site.command(at).await?;
    let log = site.home.log(name);
    site.home.start(name, command).with_context(|| format!("its log ends:\n{}", tail(&log)))
}

fn read_from(log: &Path, from: u64) -> Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // Logs are UTF-8; only a character that is being written may be cut.
    let end = std::str::from_utf8(&bytes).map_or_else(|it| it.valid_up_to(), str::len);
    bytes.truncate(end);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
