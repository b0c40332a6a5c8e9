//! Connections: how many, how long they may take to say what they want, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::routes;

/// Connections at a time; more wait until one ends.
const MAX_CONNECTIONS: usize = 512;
/// The longest time until the head of a request is here, and so that a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// The size, in bytes, from which on the head of a request is too large; one read may pass it.
const MAX_HEAD: usize = 64 * 1024;
/// The most headers of a request.
const MAX_HEADERS: usize = 100;
/// The pause after a connection could not be accepted, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are under way at the end may take: less than a process has to end in.
const GRACE: Duration = Duration::from_secs(20);

/// Serves until `stop` is cancelled, and then what is under way.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!("listening on http://{address}"),
        Err(error) => tracing::warn!(%error, "listening on an address that can't be told"),
    }
    let connections = Connections { router, graceful: GracefulShutdown::new(), http: http() };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Owns all connections: what is still there at the end is closed with it.
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            (accepted, slot) = accepted => match accepted {
                Ok((stream, _)) => {
                    let served = connections.serve(stream);
                    open.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(GRACE, connections.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests that took too long are broken off");
    }
}

struct Connections {
    router: Router,
    graceful: GracefulShutdown,
    http: http1::Builder,
}

impl Connections {
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        let service = self.router.clone().map_request(routes::fold::<Incoming>);
        let service = TowerToHyperService::new(service);
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let watched = self.graceful.watch(connection);
        async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection broke");
            }
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    http
}
