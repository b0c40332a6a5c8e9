//! Opening connections: each host in turn, with TLS as asked.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use fanfare_core::chain::chain;
use fanfare_tls::Check;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::StoreError;
use crate::target::{Place, Target};

/// How long one host may take: name, TCP, TLS and login together.
pub(crate) const HOST_TIME: Duration = Duration::from_secs(10);

/// How long a connection keeps the plans of its statements: a table that grew from nothing wants
/// another one, and PostgreSQL makes it by itself only after it has analyzed the table.
const PLANS_KEPT: Duration = Duration::from_mins(1);

/// Counts how often this process found that its server can't be written to any more. Connections
/// that were opened before the last time are not used again.
static DISCARDED: AtomicU64 = AtomicU64::new(0);

/// Has the pools close every connection that is open now, instead of using it again.
pub(crate) fn discard_open_connections() {
    DISCARDED.fetch_add(1, Ordering::Relaxed);
}

/// A connection that somebody has to drive, with or without TLS.
pub(crate) type Driven = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Target>);

/// A connection of the pool.
pub(crate) struct Pooled {
    client: ClientWrapper,
    /// Since when its plans are kept.
    planned: Instant,
    /// What [`DISCARDED`] was when it was opened.
    opened_after: u64,
    /// Whether it was left in the middle of a statement.
    abandoned: bool,
}

impl Pooled {
    /// Says that the connection may be in the middle of a statement: the pool closes it.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }
}

impl Deref for Pooled {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

/// No host could be used.
#[derive(Debug)]
pub(crate) struct Unreachable {
    told: Vec<String>,
    advice: Option<&'static str>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("; "))?;
        self.advice.map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

impl std::error::Error for Unreachable {}

impl Connector {
    /// Takes a target whose files can be read.
    pub(crate) fn new(target: Target) -> Result<Self, StoreError> {
        // What can't work is told when the process starts, not when it connects.
        target.tls.client_config().map_err(StoreError::Tls)?;
        Ok(Self(Arc::new(target)))
    }

    /// The longest time that [`open`](Self::open) takes.
    pub(crate) fn longest(&self) -> Duration {
        HOST_TIME * u32::try_from(self.0.hosts.len()).unwrap_or(u32::MAX)
    }

    /// Asks the database to end the statement that a connection is in the middle of.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), String> {
        let tls = self.0.tls.client_config().map_err(|error| chain(&error))?;
        let cancelling = token.cancel_query(MakeRustlsConnect::new(tls));
        match timeout(HOST_TIME, cancelling).await {
            Ok(cancelled) => cancelled.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no answer within {} s", HOST_TIME.as_secs())),
        }
    }

    fn advice(&self, error: &tokio_postgres::Error) -> Option<&'static str> {
        let secured = self.0.tls.check != Check::Nothing;
        fanfare_tls::advice(error, secured)
            .or((secured && error.is_closed()).then_some(fanfare_tls::ENDED))
    }

    /// Connects to the first host that can be used.
    pub(crate) async fn open(&self) -> Result<(Client, Driven), Unreachable> {
        let mut unreachable = Unreachable { told: Vec::new(), advice: None };
        // Read anew each time: a certificate may have been renewed.
        let tls = match self.0.tls.client_config() {
            Ok(config) => MakeRustlsConnect::new(config),
            Err(error) => {
                unreachable.told.push(chain(&error));
                return Err(unreachable);
            }
        };
        for Place { name, config } in self.0.in_turn() {
            // Boxed: what waits for a connection from the pool is to stay small.
            let connecting = Box::pin(config.connect(tls.clone()));
            let told = match timeout(HOST_TIME, connecting).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => {
                    unreachable.advice = unreachable.advice.or_else(|| self.advice(&error));
                    chain(&error)
                }
                Err(_) => format!("no answer within {} s", HOST_TIME.as_secs()),
            };
            unreachable.told.push(format!("{name}: {told}"));
        }
        Err(unreachable)
    }
}

impl Target {
    /// The hosts in the order in which they are tried now.
    fn in_turn(&self) -> impl Iterator<Item = &Place> {
        let mut random = [0];
        // Without chance the order is the one that was given, which does no harm.
        let first = match getrandom::fill(&mut random) {
            Ok(()) if self.spread => usize::from(random[0]) % self.hosts.len().max(1),
            _ => 0,
        };
        self.hosts.iter().cycle().skip(first).take(self.hosts.len())
    }
}

impl Manager for Connector {
    type Type = Pooled;
    type Error = Unreachable;

    async fn create(&self) -> Result<Pooled, Unreachable> {
        let opened_after = DISCARDED.load(Ordering::Relaxed);
        let (client, connection) = self.open().await?;
        let driving = tokio::spawn(async move {
            // Whoever waits for an answer is told of the failure.
            let _ = connection.await;
        });
        let client = ClientWrapper::new(client, driving);
        Ok(Pooled { client, planned: Instant::now(), opened_after, abandoned: false })
    }

    async fn recycle(&self, pooled: &mut Pooled, _: &Metrics) -> RecycleResult<Unreachable> {
        if pooled.abandoned {
            return Err(RecycleError::message("the connection was left in a statement"));
        }
        if pooled.is_closed() {
            return Err(RecycleError::message("the connection has ended"));
        }
        if pooled.opened_after != DISCARDED.load(Ordering::Relaxed) {
            return Err(RecycleError::message("its server can't be written to any more"));
        }
        if pooled.planned.elapsed() > PLANS_KEPT {
            let discarded = pooled.simple_query("-- plan_anew\ndiscard plans").await;
            discarded.map_err(|error| RecycleError::message(error.to_string()))?;
            pooled.planned = Instant::now();
        }
        Ok(())
    }
}
