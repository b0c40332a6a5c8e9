//! The overview for administrators: is everything arriving?

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_core::revisions::Hold;
use fanfare_store::StoreError;
use fanfare_store::overview::Overview as Ledger;
use fanfare_store::processes::Process;
use fanfare_store::statistics::{Hour, StatisticsFilter};

use crate::publisher::QueueDepth;
use crate::storage::{self, Storage, StorageError, StorageLimits};
use crate::{Actor, Context, NotAdministrator};

/// The hours that are counted.
const HOURS: u32 = 24;

/// The state of the installation.
#[derive(Debug)]
pub struct Overview {
    pub ledger: Ledger,
    /// The attempts of the last 24 hours, the oldest hour first.
    pub hours: Vec<Hour>,
    /// The queues; `None` while the broker can't be reached.
    pub queues: Option<Vec<QueueDepth>>,
    pub storage: Storage,
    /// The processes that run, and those that ended without a word within the last hour. A bridge has no
    /// connection to the database, so it is not among them.
    pub processes: Vec<Process>,
    /// The hosts with an open circuit breaker, and the number of workers in which it is open.
    pub open_breakers: BTreeMap<String, usize>,
    /// What a person should look at.
    pub concerns: Vec<Concern>,
}

/// Something that a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The broker can't be reached.
    BrokerAway,
    /// No router consumes events.
    NoRouter,
    /// No worker has reported lately.
    NoWorker,
    /// Every event is held.
    Held(Hold),
    /// More attempts of the last hours failed than succeeded.
    Failing,
    /// Letters died within the last hour.
    Died(i64),
    /// Letters that died before wait for a person to decide.
    Undecided(i64),
}

/// Why the overview can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    /// It concerns administrators only.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StorageError> for OverviewError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotAdministrator(error) => error.into(),
            StorageError::Store(error) => error.into(),
        }
    }
}

/// Reads the state of the installation. Only an operator or a System Administrator may.
/// `longest_chain` is the longest time that a series of attempts may last.
///
/// # Errors
///
/// [`OverviewError`]
pub async fn show(
    context: &Context,
    actor: &Actor,
    limits: StorageLimits,
    longest_chain: Duration,
) -> Result<Overview, OverviewError> {
    actor.administrator()?;
    let store = &context.store;
    let filter = StatisticsFilter { webhook: None, owner: None, hours: HOURS, longest_chain };
    let (ledger, hours, storage, directory, processes, queues) = tokio::join!(
        store.overview(),
        store.statistics_hours(&filter),
        storage::show(context, actor, limits),
        store.directory_state(),
        store.processes(),
        context.publisher.depths(),
    );
    let (ledger, hours, hold) = (ledger?, hours?, directory?.hold);
    let concerns = concerns(&ledger, &hours, queues.as_deref(), hold);
    let processes = processes?;
    let open_breakers = open_breakers(&processes);
    Ok(Overview { ledger, hours, queues, storage: storage?, processes, open_breakers, concerns })
}

/// The hosts with an open circuit breaker in processes that run.
fn open_breakers(processes: &[Process]) -> BTreeMap<String, usize> {
    let mut open = BTreeMap::new();
    let running = processes.iter().filter(|it| !it.is_missing);
    for host in running.flat_map(|it| &it.open_breakers) {
        *open.entry(host.clone()).or_default() += 1;
    }
    open
}

/// What a person should look at, the most urgent first.
fn concerns(
    ledger: &Ledger,
    hours: &[Hour],
    queues: Option<&[QueueDepth]>,
    hold: Option<Hold>,
) -> Vec<Concern> {
    let has_no_router = queues.is_some_and(|queues| {
        queues.iter().any(|it| it.name == "fanfare.events" && it.consumers == 0)
    });
    // The last hour has just begun, so the one before counts too.
    let lately = || hours.iter().rev().take(2);
    let attempts: i64 = lately().flat_map(|hour| hour.outcomes.values()).sum();
    let delivered: i64 = lately().filter_map(|hour| hour.outcomes.get("delivered")).sum();
    let undecided = ledger.dead_events + ledger.dead_deliveries - ledger.died_lately;
    let found = [
        queues.is_none().then_some(Concern::BrokerAway),
        has_no_router.then_some(Concern::NoRouter),
        (ledger.workers == 0).then_some(Concern::NoWorker),
        hold.map(Concern::Held),
        (attempts > 2 * delivered).then_some(Concern::Failing),
        (ledger.died_lately > 0).then_some(Concern::Died(ledger.died_lately)),
        (undecided > 0).then_some(Concern::Undecided(undecided)),
    ];
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            oldest: None,
            held: 0,
            failing: 0,
            paused: 0,
            dead_events: 0,
            dead_deliveries: 0,
            died_lately: 0,
            workers: 1,
            answers: None,
        }
    }

    fn hour(delivered: i64, failed: i64) -> Hour {
        let outcomes = [("delivered", delivered), ("status", failed)];
        let outcomes: BTreeMap<String, i64> =
            outcomes.map(|(code, count)| (code.to_owned(), count)).into();
        Hour { begin: chrono::DateTime::UNIX_EPOCH, outcomes }
    }

    #[test]
    fn nothing_is_of_concern_while_everything_arrives() {
        let queue = |consumers| [QueueDepth { name: "fanfare.events", ready: 7, consumers }];
        let hours = [hour(0, 9), hour(9, 1), hour(0, 0)];
        assert_eq!(concerns(&ledger(), &hours, Some(&queue(1)), None), []);
        let (dead_events, dead_deliveries) = (2, 8);
        let wrong = Ledger { workers: 0, died_lately: 3, dead_events, dead_deliveries, ..ledger() };
        let hours = [hour(9, 0), hour(1, 5)];
        let hours = [&hours[..], &[hour(1, 0)]].concat();
        assert_eq!(
            concerns(&wrong, &hours, Some(&queue(0)), Some(Hold::Incomplete)),
            [
                Concern::NoRouter,
                Concern::NoWorker,
                Concern::Held(Hold::Incomplete),
                Concern::Failing,
                Concern::Died(3),
                Concern::Undecided(7),
            ]
        );
        assert_eq!(concerns(&ledger(), &[], None, None), [Concern::BrokerAway]);
    }
}
