//! Faults for each statement that passes a proxy, a few at a time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_testkit::pgproxy::{Fault, Marker, PgProxy};
use fanfare_testkit::wait::{eventually, pass};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::world::SOON;

const FAULTS: [Fault; 3] =
    [Fault::LoseAnswer, Fault::Delay(Duration::from_secs(3)), Fault::CloseBefore];

/// The number of faults that wait for their statements at a time: some statements are rare.
const AT_A_TIME: usize = 8;

/// How often each fault hits each statement: a single hit may not matter, for example when there is
/// no event to route.
const TIMES: usize = 3;

/// The time between two faults, so that the process works in between.
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
    /// The statements that every fault must hit.
    expected: &'static [&'static str],
    hits: Mutex<Vec<Hit>>,
    open: Mutex<BTreeSet<(usize, String)>>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(
        role: &'static str,
        proxy: &'a PgProxy,
        expected: &'static [&'static str],
    ) -> Self {
        Self { role, proxy, expected, hits: Mutex::default(), open: Mutex::default() }
    }

    /// The faults that have not yet hit one of the expected statements.
    pub(crate) fn never(&self) -> Vec<String> {
        let wanted = self
            .expected
            .iter()
            .flat_map(|name| FAULTS.map(|fault| self.describe(&Marker::statement(name), fault)));
        let hits = hold(&self.hits);
        wanted.filter(|what| !hits.iter().any(|hit| hit.what == *what)).collect()
    }

    /// Waits until the expected statements have passed.
    pub(crate) async fn has_seen(&self) {
        eventually(&format!("all statements of a {}", self.role), SOON, async || {
            let seen = self.proxy.seen();
            let is_missing = |name: &&&str| !seen.contains_key(&Marker::statement(name));
            let missing: Vec<&&str> = self.expected.iter().filter(is_missing).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("without {missing:?}")) }
        })
        .await;
    }

    /// Applies every fault to every statement, including statements that are first seen meanwhile.
    /// The expected statements come first: the faults of statements that are not sent again would
    /// otherwise take all the places, and the rest would never get one.
    pub(crate) async fn run(&self) {
        let mut done: BTreeSet<(usize, String)> = BTreeSet::new();
        let mut waiting = FuturesUnordered::new();
        loop {
            let seen = self.proxy.seen();
            let markers = || seen.keys().filter(|marker| is_ours(marker));
            let each = |fault: Fault| markers().map(move |marker| (marker.clone(), fault));
            let mut wanted: Vec<_> = (1..=TIMES)
                .flat_map(|time| FAULTS.into_iter().flat_map(each).map(move |it| (time, it)))
                .collect();
            wanted.sort_by_key(|(time, (marker, _))| *time > 1 || !self.is_expected(marker));
            for (time, (marker, fault)) in wanted {
                let what = self.describe(&marker, fault);
                if waiting.len() < AT_A_TIME && done.insert((time, what.clone())) {
                    hold(&self.open).insert((time, what.clone()));
                    let mut injected = self.proxy.inject(marker, fault);
                    waiting.push(async move {
                        injected.hit().await;
                        (time, what)
                    });
                }
            }
            let Some((time, what)) = waiting.next().await else { return };
            hold(&self.hits).push(Hit { at: Instant::now(), what: what.clone() });
            hold(&self.open).remove(&(time, what));
            pass(PAUSE).await;
        }
    }

    /// The faults that have hit.
    pub(crate) fn hits(&self) -> Vec<Hit> {
        std::mem::take(&mut *hold(&self.hits))
    }

    /// The faults that wait for their statements.
    pub(crate) fn open(&self) -> Vec<String> {
        hold(&self.open).iter().map(|(time, what)| format!("{what} ({time})")).collect()
    }

    fn is_expected(&self, marker: &Marker) -> bool {
        self.expected.iter().any(|name| Marker::statement(name) == *marker)
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

/// Whether a statement is Fanfare's own. The library asks for types with statements of its own. A
/// commit is known by its statements.
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
