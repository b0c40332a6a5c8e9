//! Whether a role can do its work: everything that it can't do without is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use fanfare_broker::{QueueHealth, State};
use fanfare_metrics::{Broker, Process};
use fanfare_store::{SchemaState, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For how long the database's last answer is good enough: many may ask.
const FRESH: Duration = Duration::from_secs(2);

/// A database that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a role stands with the broker.
pub(crate) struct BrokerStanding {
    /// One of [`STATES`].
    state: AtomicU8,
    queues: Arc<QueueHealth>,
    metrics: Broker,
}

const STATES: [State; 4] = [State::Down, State::Connecting, State::Connected, State::Blocked];

impl BrokerStanding {
    pub(crate) fn new(metrics: Broker, queues: Arc<QueueHealth>) -> Self {
        Self { state: AtomicU8::new(0), queues, metrics }
    }

    pub(crate) fn set(&self, state: State) {
        let known = STATES.iter().position(|it| *it == state).unwrap_or_default();
        self.state.store(u8::try_from(known).unwrap_or_default(), Ordering::Relaxed);
        let blocked = state == State::Blocked;
        self.metrics.state(blocked || state == State::Connected, blocked);
    }

    /// The queues that can't be consumed, a line each.
    fn queue_problems(&self) -> Vec<String> {
        let problem = |(queue, problem): (_, Option<String>)| {
            self.metrics.queue(queue, problem.is_none());
            problem.map(|problem| format!("queue {queue} can't be consumed: {problem}"))
        };
        self.queues.queues().into_iter().filter_map(problem).collect()
    }

    fn problem(&self) -> Option<&'static str> {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        match STATES.get(state) {
            Some(State::Connected) => None,
            Some(State::Blocked) => {
                Some("the broker takes no messages: it is short of memory or disk")
            }
            Some(State::Down | State::Connecting) | None => Some("not connected to the broker"),
        }
    }
}

/// What a role needs.
pub(crate) struct Readiness {
    store: Store,
    broker: Option<Arc<BrokerStanding>>,
    process: Process,
    stop: CancellationToken,
    /// The database's last answer and when it came. Who asks meanwhile waits for the same one.
    database: Mutex<Option<(Instant, Option<String>)>>,
}

impl Readiness {
    pub(crate) fn new(
        store: Store,
        broker: Option<Arc<BrokerStanding>>,
        process: Process,
        stop: CancellationToken,
    ) -> Self {
        Self { store, broker, process, stop, database: Mutex::default() }
    }

    /// Why the role can't do its work, a line each; none when it can.
    pub(crate) async fn problems(&self) -> Vec<String> {
        let stopping = self.stop.is_cancelled().then(|| "the process is ending".to_owned());
        let broker = self.broker.as_ref().and_then(|broker| broker.problem()).map(str::to_owned);
        // Without the broker there are no queues either.
        let queues = if broker.is_none() { self.queues() } else { Vec::new() };
        let problems = [stopping, broker, self.database().await].into_iter().flatten();
        problems.chain(queues).collect()
    }

    /// The queues that can't be consumed now, a line each.
    pub(crate) fn queues(&self) -> Vec<String> {
        self.broker.as_ref().map(|broker| broker.queue_problems()).unwrap_or_default()
    }

    /// What is wrong with the database, as of at most two seconds ago.
    pub(crate) async fn database(&self) -> Option<String> {
        let mut known = self.database.lock().await;
        match &*known {
            Some((at, problem)) if at.elapsed() < FRESH => return problem.clone(),
            _ => {}
        }
        let problem = match timeout(PATIENCE, self.store.schema_state()).await {
            Ok(answer) => problem(answer),
            Err(_) => Some(format!("the database did not answer within {PATIENCE:?}")),
        };
        self.process.database(problem.is_none());
        *known = Some((Instant::now(), problem.clone()));
        problem
    }
}

/// What an answer says is wrong. A schema that is newer than the program serves it as well: old
/// programs run on while new ones are rolled out.
fn problem(answer: Result<SchemaState, StoreError>) -> Option<String> {
    match answer {
        Ok(SchemaState::Current(_) | SchemaState::Ahead { .. }) => None,
        Ok(SchemaState::Behind { database, program }) => Some(format!(
            "the database's schema has version {database}, this program needs {program}: \
             run `fanfare migrate`"
        )),
        Err(error) => Some(error.chain().replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_metrics::Registry;

    #[test]
    fn only_a_broker_that_takes_messages_is_no_problem() {
        let mut registry = Registry::new();
        let standing = BrokerStanding::new(Broker::new(&mut registry), Arc::default());
        assert_eq!(standing.problem(), Some("not connected to the broker"));
        for (state, up, blocked, ready) in [
            (State::Connecting, 0, 0, false),
            (State::Connected, 1, 0, true),
            (State::Blocked, 1, 1, false),
            (State::Connected, 1, 0, true),
            (State::Down, 0, 0, false),
        ] {
            standing.set(state);
            assert_eq!(standing.problem().is_none(), ready, "{state:?}");
            let text = registry.text();
            for (name, value) in [("up", up), ("blocked", blocked)] {
                let line = format!("fanfare_broker_{name} {value}\n");
                assert!(text.contains(&line), "{state:?}: {text}");
            }
        }
    }

    #[test]
    fn a_schema_must_have_what_the_program_needs() {
        assert_eq!(problem(Ok(SchemaState::Current(5))), None);
        assert_eq!(problem(Ok(SchemaState::Ahead { database: 6, program: 5 })), None);
        let behind = problem(Ok(SchemaState::Behind { database: 4, program: 5 })).unwrap();
        assert!(behind.contains("version 4") && behind.contains("fanfare migrate"), "{behind}");
    }
}
