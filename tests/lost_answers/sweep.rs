//! Breaking each statement that passes a proxy, a few at a time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_testkit::pgproxy::{Fault, Marker, PgProxy};
use fanfare_testkit::wait::eventually;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::world::SOON;

const FAULTS: [Fault; 3] =
    [Fault::LoseAnswer, Fault::Delay(Duration::from_secs(3)), Fault::CloseBefore];

/// Faults that wait for their statements at a time: some statements are rare.
const AT_A_TIME: usize = 8;

/// Between two faults, so that the process works in between.
const PAUSE: Duration = Duration::from_millis(100);

/// A fault that hit a statement.
pub(crate) struct Hit {
    pub(crate) at: Instant,
    pub(crate) what: String,
}

/// The faults of one proxy.
pub(crate) struct Sweep<'a> {
    role: &'static str,
    proxy: &'a PgProxy,
    hits: Mutex<Vec<Hit>>,
    open: Mutex<BTreeSet<String>>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(role: &'static str, proxy: &'a PgProxy) -> Self {
        Self { role, proxy, hits: Mutex::default(), open: Mutex::default() }
    }

    /// Waits until these statements have passed.
    pub(crate) async fn has_seen(&self, names: &[&str]) {
        eventually(&format!("all statements of a {}", self.role), SOON, async || {
            let seen = self.proxy.seen();
            let is_missing = |name: &&&str| !seen.contains_key(&Marker::statement(name));
            let missing: Vec<&&str> = names.iter().filter(is_missing).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("without {missing:?}")) }
        })
        .await;
    }

    /// Breaks every statement in every way, also those that are seen for the first time meanwhile.
    pub(crate) async fn run(&self) {
        let mut done: BTreeSet<String> = BTreeSet::new();
        let mut waiting = FuturesUnordered::new();
        loop {
            let seen = self.proxy.seen();
            let wanted = FAULTS
                .iter()
                .flat_map(|fault| seen.keys().map(move |marker| (marker.clone(), *fault)))
                .filter(|(marker, _)| is_ours(marker))
                .map(|(marker, fault)| (self.describe(&marker, fault), marker, fault));
            for (what, marker, fault) in wanted {
                if waiting.len() < AT_A_TIME && done.insert(what.clone()) {
                    hold(&self.open).insert(what.clone());
                    let mut injected = self.proxy.inject(marker, fault);
                    waiting.push(async move {
                        injected.hit().await;
                        what
                    });
                }
            }
            let Some(what) = waiting.next().await else { return };
            hold(&self.open).remove(&what);
            hold(&self.hits).push(Hit { at: Instant::now(), what });
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The faults that have hit.
    pub(crate) fn hits(&self) -> Vec<Hit> {
        std::mem::take(&mut *hold(&self.hits))
    }

    /// The faults that wait for their statements.
    pub(crate) fn open(&self) -> Vec<String> {
        hold(&self.open).iter().cloned().collect()
    }

    fn describe(&self, marker: &Marker, fault: Fault) -> String {
        let fault = match fault {
            Fault::LoseAnswer => "answer lost",
            Fault::Delay(_) => "answer delayed",
            Fault::CloseBefore => "closed before",
        };
        format!("{} `{marker}` {fault}", self.role)
    }
}

/// Whether a statement is one of Fanfare's, and not the library's, which asks for types. A commit is
/// known by its statements.
fn is_ours(marker: &Marker) -> bool {
    match marker {
        Marker::CommitOf(_) => true,
        Marker::Statement(name) => {
            name != "commit" && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }
    }
}

fn hold<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
