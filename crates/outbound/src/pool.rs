//! The pool of connections that can be used again.
//!
//! An HTTP/1 connection is removed while it is used, and returned when both sides agree that its
//! exchange has ended. An HTTP/2 connection is shared.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::client::conn::{http1, http2};

use crate::watch::Watch;

/// How long an unused connection is kept: long enough for a busy webhook, and shorter than the idle
/// time-out of common servers, so that few POSTs use a connection that the server is closing.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The interval at which unused connections are closed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The most unused connections to one host: as many as there are concurrent requests to one
/// webhook, so that a busy endpoint needs no new connections.
const IDLE_PER_HOST: usize = 64;

/// The most servers that are remembered as demanding HTTP/1.1. A forgotten one costs a refused
/// request.
const HTTP1_ONLY: usize = 4096;

/// Sends over an HTTP/1 connection.
pub(crate) type Http1 = http1::SendRequest<Full<Bytes>>;
/// Sends over an HTTP/2 connection.
pub(crate) type Http2 = http2::SendRequest<Full<Bytes>>;

/// The origin that a connection is for: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    secure: bool,
    authority: String,
}

impl Origin {
    pub(crate) fn of(uri: &Uri) -> Self {
        let secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Self { secure, authority }
    }
}

/// A connection that can be used for a request.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1(Http1, Arc<Watch>),
    Http2(Http2),
}

/// The open connections that can be used for another request.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// For each origin, in the order of last use.
    idle: HashMap<Origin, Vec<(Http1, Arc<Watch>, Instant)>>,
    shared: HashMap<Origin, (Http2, Instant)>,
    http1_only: HashSet<Origin>,
    is_swept: bool,
}

impl Pool {
    /// Takes a connection that is open as far as is known. With `shared_only`, it is never an idle
    /// HTTP/1 connection.
    pub(crate) fn take(&self, origin: &Origin, shared_only: bool) -> Option<Connection> {
        let mut free = self.lock();
        if let Some((sender, used)) = free.shared.get_mut(origin) {
            if sender.is_ready() {
                *used = Instant::now();
                return Some(Connection::Http2(sender.clone()));
            }
            free.shared.remove(origin);
        }
        if shared_only {
            return None;
        }
        let idle = free.idle.get_mut(origin)?;
        while let Some((sender, watch, since)) = idle.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_TIME {
                return Some(Connection::Http1(sender, watch));
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(self: &Arc<Self>, origin: Origin, connection: Connection) {
        let now = Instant::now();
        let mut free = self.lock();
        match connection {
            Connection::Http1(sender, watch) => {
                let idle = free.idle.entry(origin).or_default();
                if idle.len() < IDLE_PER_HOST {
                    idle.push((sender, watch, now));
                }
            }
            Connection::Http2(sender) if !free.http1_only.contains(&origin) => {
                free.shared.insert(origin, (sender, now));
            }
            Connection::Http2(_) => {}
        }
        if !free.is_swept {
            free.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Records that this server demands HTTP/1.1.
    pub(crate) fn demand_http1(&self, origin: &Origin) {
        let mut free = self.lock();
        free.shared.remove(origin);
        if free.http1_only.len() >= HTTP1_ONLY {
            free.http1_only.clear();
        }
        free.http1_only.insert(origin.clone());
    }

    /// Whether this server demands HTTP/1.1.
    pub(crate) fn demands_http1(&self, origin: &Origin) -> bool {
        self.lock().http1_only.contains(origin)
    }

    fn drop_unused(&self) {
        let mut free = self.lock();
        for idle in free.idle.values_mut() {
            idle.retain(|(sender, _, since)| sender.is_ready() && since.elapsed() < IDLE_TIME);
        }
        free.idle.retain(|_, idle| !idle.is_empty());
        free.shared.retain(|_, (sender, used)| sender.is_ready() && used.elapsed() < IDLE_TIME);
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes unused connections as long as the pool exists.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        match pool.upgrade() {
            Some(pool) => pool.drop_unused(),
            None => return,
        }
    }
}
