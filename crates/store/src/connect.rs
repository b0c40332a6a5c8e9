//! Opening connections, each host in turn and with TLS as asked, and using them again.

use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use fanfare_core::chain::chain;
use fanfare_tls::Check;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::StoreError;
use crate::misconfigured::Misconfiguration;
use crate::session::{Driven, Found, Session};
use crate::target::{Place, Target};

/// How long one host may take: name, TCP, TLS and login together.
pub(crate) const HOST_TIME: Duration = Duration::from_secs(10);

/// How long a connection keeps the plans of its statements: a table that grew from nothing wants
/// another one, and PostgreSQL makes it by itself only after it has analyzed the table.
const PLANS_KEPT: Duration = Duration::from_mins(1);

/// How long a connection is believed to be as it was found: a server that became a standby without
/// ending its sessions is noticed within this time, also by a process that only reads.
const BELIEVED: Duration = Duration::from_secs(3);

/// A connection that does not even answer this in time is closed.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// Counts how often this process found that the connections it had were of no use any more. Those
/// that were opened before the last time are not used again.
static DISCARDED: AtomicU64 = AtomicU64::new(0);

/// Has the pools close every connection that is open now, instead of using it again.
pub(crate) fn discard_open_connections() {
    DISCARDED.fetch_add(1, Ordering::Relaxed);
}

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Target>);

/// A connection of the pool.
pub(crate) struct Pooled {
    client: ClientWrapper,
    session: Session,
    /// When it was last seen that it can be written to.
    checked: Instant,
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

    /// The library's client, whose statements are not repeated.
    pub(crate) fn client(&self) -> &ClientWrapper {
        &self.client
    }

    /// Looks whether the connection still is what it was when it was opened.
    async fn check(&mut self) -> RecycleResult<Unreachable> {
        let found = timeout(CHECK_TIME, self.session.look(&self.client)).await;
        match found {
            Ok(Ok(Found::Usable)) => {
                self.checked = Instant::now();
                Ok(())
            }
            Ok(Ok(Found::ReadOnly)) => {
                // The others would keep to that server.
                discard_open_connections();
                Err(RecycleError::message("its server does not allow writes any more"))
            }
            Ok(Ok(Found::Shared)) => Err(RecycleError::message("its session is shared")),
            Ok(Err(error)) => Err(RecycleError::message(error.to_string())),
            Err(_) => Err(RecycleError::message("it is silent")),
        }
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
pub struct Unreachable {
    told: Vec<String>,
    advice: Option<&'static str>,
    /// What is wrong, if that is so with every host.
    misconfigured: Option<Misconfiguration>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("; "))?;
        self.advice.map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

impl std::error::Error for Unreachable {}

impl From<Unreachable> for StoreError {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable.misconfigured {
            Some(what) => Self::Misconfigured { what, source: unreachable },
            None => Self::Connect(Box::new(unreachable)),
        }
    }
}

/// Why one host can't be used.
pub(crate) struct Refused {
    told: String,
    advice: Option<&'static str>,
    misconfigured: Option<Misconfiguration>,
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        let misconfigured = Misconfiguration::of_connecting(&error);
        Self { told: chain(&error), advice: None, misconfigured }
    }
}

impl Refused {
    pub(crate) fn misconfigured(what: Misconfiguration, told: String) -> Self {
        Self { told, advice: None, misconfigured: Some(what) }
    }

    pub(crate) fn away(told: String) -> Self {
        Self { told, advice: None, misconfigured: None }
    }
}

/// A connection that has been prepared for use.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) driven: Driven,
    pub(crate) session: Session,
}

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

    /// How to reach the first host, for a look at what answers there.
    pub(crate) fn first_host(&self) -> Option<(Config, MakeRustlsConnect)> {
        Some((self.0.hosts.first()?.config.clone(), self.tls().ok()?))
    }

    fn advice(&self, error: &tokio_postgres::Error) -> Option<&'static str> {
        let secured = self.0.tls.check != Check::Nothing;
        fanfare_tls::advice(error, secured)
            .or((secured && error.is_closed()).then_some(fanfare_tls::ENDED))
    }

    fn refused(&self, error: tokio_postgres::Error) -> Refused {
        Refused { advice: self.advice(&error), ..error.into() }
    }

    /// Connects to the first host that can be used.
    pub(crate) async fn open(&self) -> Result<Opened, Unreachable> {
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(told) => {
                return Err(Unreachable { told: vec![told], advice: None, misconfigured: None });
            }
        };
        let mut refused: Vec<(&str, Refused)> = Vec::new();
        for Place { name, config } in self.0.in_turn() {
            // Boxed: what waits for a connection from the pool is to stay small.
            let opening = Box::pin(self.open_at(config, tls.clone()));
            match timeout(HOST_TIME, opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(why)) => refused.push((name, why)),
                Err(_) => {
                    let told = format!("no answer within {} s", HOST_TIME.as_secs());
                    refused.push((name, Refused::away(told)));
                }
            }
        }
        // One host that may come is reason enough to wait.
        let all = refused.iter().all(|(_, why)| why.misconfigured.is_some());
        let misconfigured = refused.iter().find_map(|(_, why)| why.misconfigured);
        Err(Unreachable {
            told: refused.iter().map(|(name, why)| format!("{name}: {}", why.told)).collect(),
            advice: refused.iter().find_map(|(_, why)| why.advice),
            misconfigured: misconfigured.filter(|_| all),
        })
    }

    /// Read anew each time: a certificate may have been renewed.
    fn tls(&self) -> Result<MakeRustlsConnect, String> {
        self.0.tls.client_config().map(MakeRustlsConnect::new).map_err(|error| chain(&error))
    }

    async fn open_at(&self, config: &Config, tls: MakeRustlsConnect) -> Result<Opened, Refused> {
        let connected = config.connect(tls.clone()).await;
        let (client, mut driven) = connected.map_err(|error| self.refused(error))?;
        let begun = Session::begin(&client, &self.0.settings);
        let session = drive(&mut driven, begun).await?;
        if Session::is_unproven() {
            let proven = session.prove(&client, config.connect(tls));
            // Boxed: it happens once in a process, and its room would be taken in every future.
            drive(&mut driven, Box::pin(proven)).await?;
        }
        Ok(Opened { client, driven, session })
    }
}

/// Waits for an answer on a connection that nobody drives yet.
async fn drive<T>(
    driven: &mut Driven,
    answer: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        // What comes besides answers are notices.
        while let Poll::Ready(message) = driven.poll_message(cx) {
            match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => {
                    let told = "it ended the connection".to_owned();
                    return Poll::Ready(Err(Refused::away(told)));
                }
            }
        }
        answer.as_mut().poll(cx)
    })
    .await
}

impl Target {
    /// The hosts in the order in which they are tried now.
    fn in_turn(&self) -> impl Iterator<Item = &Place> {
        let first = if self.spread { fastrand::usize(..self.hosts.len().max(1)) } else { 0 };
        self.hosts.iter().cycle().skip(first).take(self.hosts.len())
    }
}

impl Manager for Connector {
    type Type = Pooled;
    type Error = Unreachable;

    async fn create(&self) -> Result<Pooled, Unreachable> {
        let opened_after = DISCARDED.load(Ordering::Relaxed);
        let Opened { client, driven, session } = self.open().await?;
        let driving = tokio::spawn(async move {
            // Whoever waits for an answer is told of the failure.
            let _ = driven.await;
        });
        let client = ClientWrapper::new(client, driving);
        let now = Instant::now();
        Ok(Pooled { client, session, checked: now, planned: now, opened_after, abandoned: false })
    }

    async fn recycle(&self, pooled: &mut Pooled, _: &Metrics) -> RecycleResult<Unreachable> {
        if pooled.abandoned {
            return Err(RecycleError::message("the connection was left in a statement"));
        }
        if pooled.is_closed() {
            return Err(RecycleError::message("the connection has ended"));
        }
        if pooled.opened_after != DISCARDED.load(Ordering::Relaxed) {
            return Err(RecycleError::message("it belongs to those that were given up"));
        }
        if pooled.checked.elapsed() > BELIEVED {
            pooled.check().await?;
        }
        if pooled.planned.elapsed() > PLANS_KEPT {
            let discarded = pooled.simple_query("-- plan_anew\ndiscard plans").await;
            discarded.map_err(|error| RecycleError::message(error.to_string()))?;
            pooled.planned = Instant::now();
        }
        Ok(())
    }
}
