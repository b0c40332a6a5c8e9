//! Opens connections to the database's hosts in turn, and checks them before they are used again.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
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
use crate::generation::{self, discard_open_connections};
use crate::session::{Session, SessionState, SocketDriver};
use crate::target::{DbHost, Target};
use crate::unreachable::{HostError, Unreachable};

/// The time limit for one host: name resolution, TCP, TLS and login together.
pub(crate) const HOST_TIME: Duration = Duration::from_secs(10);

/// The time for which a connection keeps the plans of its statements. A table that grew from
/// nothing needs another plan, and PostgreSQL makes one by itself only after it has analyzed the
/// table.
const PLANS_KEPT: Duration = Duration::from_mins(1);

/// The time for which a check of a connection is valid. A server that became a standby without
/// ending its sessions is noticed within this time, also by a process that only reads.
const BELIEVED: Duration = Duration::from_secs(3);

/// The time limit of a check, after which the connection is closed.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Target>);

/// A connection of the pool.
pub(crate) struct Pooled {
    client: ClientWrapper,
    session: Session,
    /// The time of the last check.
    checked: Instant,
    /// The time from which on its plans are kept.
    planned: Instant,
    generation: u64,
    /// Whether a statement may still run on it.
    abandoned: bool,
}

impl Pooled {
    /// Marks a connection on which a statement may still run: the pool closes it.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// The library's client, which does not repeat statements that were prepared too early.
    pub(crate) fn client(&self) -> &ClientWrapper {
        &self.client
    }

    /// Checks that the session is still this client's own, on a server that allows writes.
    async fn check(&mut self) -> RecycleResult<Unreachable> {
        let found = timeout(CHECK_TIME, self.session.inspect(&self.client)).await;
        match found {
            Ok(Ok(SessionState::Usable)) => {
                self.checked = Instant::now();
                Ok(())
            }
            Ok(Ok(SessionState::ReadOnly)) => {
                // The other connections lead to the same server.
                discard_open_connections();
                Err(RecycleError::message("its server does not allow writes any more"))
            }
            Ok(Ok(SessionState::Shared)) => Err(RecycleError::message("its session is shared")),
            Ok(Err(error)) => Err(RecycleError::message(error.to_string())),
            Err(_) => Err(RecycleError::message("it did not answer in time")),
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

/// A connection that has been prepared for use.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) driver: SocketDriver,
    pub(crate) session: Session,
}

impl Connector {
    /// Checks the files that a target names.
    pub(crate) fn new(target: Target) -> Result<Self, StoreError> {
        // An error in these files is reported when the process starts, not when it connects.
        target.tls.client_config().map_err(StoreError::Tls)?;
        Ok(Self(Arc::new(target)))
    }

    /// The time limit of [`open`](Self::open).
    pub(crate) fn longest(&self) -> Duration {
        HOST_TIME * u32::try_from(self.0.hosts.len()).unwrap_or(u32::MAX)
    }

    /// Asks the database to end the statement that runs on a connection.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), String> {
        let tls = self.0.tls.client_config().map_err(|error| chain(&error))?;
        let cancelling = token.cancel_query(MakeRustlsConnect::new(tls));
        match timeout(HOST_TIME, cancelling).await {
            Ok(cancelled) => cancelled.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no answer within {} s", HOST_TIME.as_secs())),
        }
    }

    /// The configuration of the first host.
    pub(crate) fn first_host(&self) -> Option<(Config, MakeRustlsConnect)> {
        Some((self.0.hosts.first()?.config.clone(), self.tls().ok()?))
    }

    fn advice(&self, error: &tokio_postgres::Error) -> Option<&'static str> {
        let secured = self.0.tls.check != Check::Nothing;
        fanfare_tls::advice(error, secured)
            .or((secured && error.is_closed()).then_some(fanfare_tls::ENDED))
    }

    fn host_error(&self, error: tokio_postgres::Error) -> HostError {
        let advice = self.advice(&error);
        HostError::from(error).with_advice(advice)
    }

    /// Connects to the first host that can be used.
    pub(crate) async fn open(&self) -> Result<Opened, Unreachable> {
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(reason) => return Err(Unreachable::without_tls(reason)),
        };
        let mut errors: Vec<(&str, HostError)> = Vec::new();
        for DbHost { name, config } in self.0.in_turn() {
            // Boxed to keep the futures small that wait for a connection from the pool.
            let opening = Box::pin(self.open_at(config, tls.clone()));
            match timeout(HOST_TIME, opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => errors.push((name, error)),
                Err(_) => {
                    let reason = format!("no answer within {} s", HOST_TIME.as_secs());
                    errors.push((name, HostError::unavailable(reason)));
                }
            }
        }
        Err(Unreachable::of_hosts(&errors))
    }

    /// Reads the files each time, since a certificate may have been renewed.
    fn tls(&self) -> Result<MakeRustlsConnect, String> {
        self.0.tls.client_config().map(MakeRustlsConnect::new).map_err(|error| chain(&error))
    }

    async fn open_at(&self, config: &Config, tls: MakeRustlsConnect) -> Result<Opened, HostError> {
        let connected = config.connect(tls.clone()).await;
        let (client, mut driver) = connected.map_err(|error| self.host_error(error))?;
        let begun = Session::begin(&client, &self.0.settings);
        let session = drive(&mut driver, begun).await?;
        if Session::is_unproven() {
            let proven = session.prove(&client, config.connect(tls));
            // Boxed: it happens once in a process, and would make every future larger.
            drive(&mut driver, Box::pin(proven)).await?;
        }
        Ok(Opened { client, driver, session })
    }
}

/// Waits for an answer on a connection that no task drives yet.
async fn drive<T>(
    driver: &mut SocketDriver,
    answer: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        // All other messages are notices.
        while let Poll::Ready(message) = driver.poll_message(cx) {
            match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => {
                    let reason = "it ended the connection".to_owned();
                    return Poll::Ready(Err(HostError::unavailable(reason)));
                }
            }
        }
        answer.as_mut().poll(cx)
    })
    .await
}

impl Target {
    /// The hosts in the order in which to try them now.
    fn in_turn(&self) -> impl Iterator<Item = &DbHost> {
        let first = if self.spread { fastrand::usize(..self.hosts.len().max(1)) } else { 0 };
        self.hosts.iter().cycle().skip(first).take(self.hosts.len())
    }
}

impl Manager for Connector {
    type Type = Pooled;
    type Error = Unreachable;

    async fn create(&self) -> Result<Pooled, Unreachable> {
        let generation = generation::current();
        let Opened { client, driver, session } = self.open().await?;
        let driving = tokio::spawn(async move {
            // The statement that waits for an answer gets the error.
            let _ = driver.await;
        });
        let client = ClientWrapper::new(client, driving);
        let now = Instant::now();
        Ok(Pooled { client, session, checked: now, planned: now, generation, abandoned: false })
    }

    async fn recycle(&self, pooled: &mut Pooled, _: &Metrics) -> RecycleResult<Unreachable> {
        if pooled.abandoned {
            return Err(RecycleError::message("the connection was left in a statement"));
        }
        if pooled.is_closed() {
            return Err(RecycleError::message("the connection has ended"));
        }
        if pooled.generation != generation::current() {
            return Err(RecycleError::message(
                "the connection is of a generation that was discarded",
            ));
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
