//! Checks whether the roles of a process can do their work: whether the servers that they need are
//! usable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use fanfare_broker::{QueueHealth, State};
use fanfare_metrics::{Broker, Process};
use fanfare_store::{SchemaState, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the database's last answer is used again. Many requests may come at the same time.
const MAX_AGE: Duration = Duration::from_secs(2);

/// How long to wait for the database's answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// A role's session with the broker.
pub(crate) struct BrokerSession {
    /// One of [`STATES`].
    state: AtomicU8,
    queues: Arc<QueueHealth>,
}

const STATES: [State; 4] = [State::Down, State::Connecting, State::Connected, State::Blocked];

impl BrokerSession {
    pub(crate) fn new(queues: Arc<QueueHealth>) -> Self {
        Self { state: AtomicU8::new(0), queues }
    }

    pub(crate) fn set(&self, state: State) {
        let known = STATES.iter().position(|it| *it == state).unwrap_or_default();
        self.state.store(u8::try_from(known).unwrap_or_default(), Ordering::Relaxed);
    }

    fn state(&self) -> State {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        STATES.get(state).copied().unwrap_or(State::Down)
    }
}

/// The sessions of all roles of this process.
pub(crate) struct BrokerSessions {
    sessions: Vec<Arc<BrokerSession>>,
    metrics: Broker,
}

impl BrokerSessions {
    pub(crate) fn new(metrics: Broker) -> Self {
        Self { sessions: Vec::new(), metrics }
    }

    pub(crate) fn add(&mut self, session: Arc<BrokerSession>) {
        self.sessions.push(session);
    }

    /// A line for each queue that can't be consumed. Sets the metrics too.
    pub(crate) fn queue_problems(&self) -> Vec<String> {
        let problem = |(queue, problem): (_, Option<String>)| {
            self.metrics.queue(queue, problem.is_none());
            problem.map(|problem| format!("queue {queue} can't be consumed: {problem}"))
        };
        let queues = self.sessions.iter().flat_map(|session| session.queues.queues());
        queues.filter_map(problem).collect()
    }

    /// The problem of the worst session. Sets the metrics too.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let is_up = |state| matches!(state, State::Connected | State::Blocked);
        let states: Vec<State> = self.sessions.iter().map(|session| session.state()).collect();
        let up = states.iter().copied().all(is_up);
        let blocked = states.contains(&State::Blocked);
        self.metrics.state(up, blocked);
        if !up {
            Some("not connected to the broker")
        } else if blocked {
            Some("the broker takes no messages: it is short of memory or disk")
        } else {
            None
        }
    }
}

/// A further condition of a process: its problem, if it has one.
pub(crate) type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The servers that the roles of a process need.
pub(crate) struct Readiness {
    /// `None` for a process that uses no database.
    store: Option<Store>,
    broker: Option<Arc<BrokerSessions>>,
    process: Process,
    stop: CancellationToken,
    check: Option<Check>,
    /// The database's last answer with its time. Concurrent requests wait for the same answer.
    database: Mutex<Option<(Instant, Option<String>)>>,
}

impl Readiness {
    pub(crate) fn new(
        store: Option<Store>,
        broker: Option<Arc<BrokerSessions>>,
        process: Process,
        stop: CancellationToken,
        check: Option<Check>,
    ) -> Self {
        Self { store, broker, process, stop, check, database: Mutex::default() }
    }

    /// A line for each reason why the roles can't do their work; empty if they can.
    pub(crate) async fn problems(&self) -> Vec<String> {
        let stopping = self.stop.is_cancelled().then(|| "the process is ending".to_owned());
        let broker = self.broker().map(str::to_owned);
        // Without the broker, the state of the queues adds nothing.
        let queues = if broker.is_none() { self.queues() } else { Vec::new() };
        let check = self.check.as_ref().and_then(|check| check());
        let problems = [stopping, broker, self.database().await, check].into_iter().flatten();
        problems.chain(queues).collect()
    }

    /// The problem of the sessions with the broker.
    pub(crate) fn broker(&self) -> Option<&'static str> {
        self.broker.as_ref().and_then(|broker| broker.problem())
    }

    /// A line for each queue that can't be consumed now.
    pub(crate) fn queues(&self) -> Vec<String> {
        self.broker.as_ref().map(|broker| broker.queue_problems()).unwrap_or_default()
    }

    /// The problem of the database, at most [`MAX_AGE`] old.
    pub(crate) async fn database(&self) -> Option<String> {
        let store = self.store.as_ref()?;
        let mut known = self.database.lock().await;
        match &*known {
            Some((at, problem)) if at.elapsed() < MAX_AGE => return problem.clone(),
            _ => {}
        }
        let problem = match timeout(DATABASE_TIMEOUT, store.schema_state()).await {
            Ok(answer) => problem(answer),
            Err(_) => Some(format!("the database did not answer within {DATABASE_TIMEOUT:?}")),
        };
        self.process.database(problem.is_none());
        *known = Some((Instant::now(), problem.clone()));
        problem
    }
}

/// The problem that an answer shows. A schema that is newer than the program is not a problem,
/// because old programs still run while new ones are rolled out.
fn problem(answer: Result<SchemaState, StoreError>) -> Option<String> {
    match answer {
        Ok(SchemaState::Current(_) | SchemaState::Ahead { .. }) => None,
        Ok(SchemaState::Behind { database, program }) => Some(format!(
            "the database's schema has version {database}, this program needs {program}; \
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
    fn process_is_ready_only_while_every_session_takes_messages() {
        let mut registry = Registry::new();
        let mut sessions = BrokerSessions::new(Broker::new(&mut registry));
        let [router, worker] = [(); 2].map(|()| Arc::new(BrokerSession::new(Arc::default())));
        sessions.add(Arc::clone(&router));
        sessions.add(Arc::clone(&worker));
        assert_eq!(sessions.problem(), Some("not connected to the broker"));
        for (states, up, blocked) in [
            ([State::Connecting, State::Connected], 0, 0),
            ([State::Connected, State::Connected], 1, 0),
            ([State::Blocked, State::Connected], 1, 1),
            ([State::Blocked, State::Down], 0, 1),
            ([State::Connected, State::Down], 0, 0),
        ] {
            let [of_router, of_worker] = states;
            router.set(of_router);
            worker.set(of_worker);
            let is_ready = (up, blocked) == (1, 0);
            assert_eq!(sessions.problem().is_none(), is_ready, "{states:?}");
            let text = registry.text();
            for (name, value) in [("up", up), ("blocked", blocked)] {
                let line = format!("fanfare_broker_{name} {value}\n");
                assert!(text.contains(&line), "{states:?}: {text}");
            }
        }
    }

    #[test]
    fn schema_older_than_the_program_is_a_problem() {
        assert_eq!(problem(Ok(SchemaState::Current(5))), None);
        assert_eq!(problem(Ok(SchemaState::Ahead { database: 6, program: 5 })), None);
        let behind = problem(Ok(SchemaState::Behind { database: 4, program: 5 })).unwrap();
        assert!(behind.contains("version 4") && behind.contains("fanfare migrate"), "{behind}");
    }
}
