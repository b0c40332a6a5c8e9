//! The answers to whoever asks, with limits that keep anybody from costing the role much.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use fanfare_metrics::{CONTENT_TYPE, Registry};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::readiness::Readiness;

/// Connections at a time; more wait until one ends.
const MAX_CONNECTIONS: usize = 32;

/// The longest life of a connection. Each serves one request.
const LIFE: Duration = Duration::from_secs(10);

/// The size of a request's head, in bytes, from which on it is refused.
const MAX_HEAD: usize = 16 * 1024;

/// The pause after a connection could not be accepted, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// What is told.
pub(crate) struct Page {
    pub(crate) registry: Registry,
    pub(crate) readiness: Readiness,
}

/// Answers for ever. Connections end with it.
pub(crate) async fn serve(listener: &TcpListener, page: Page) {
    let page = Arc::new(page);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(open.spawn(connection(stream, Arc::clone(&page)))),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection for the metrics");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(|request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(page.answer(request.method(), request.uri().path()).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    let served = http.serve_connection(TokioIo::new(stream), service);
    match timeout(LIFE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for the metrics broke"),
        Err(_) => tracing::debug!("a connection for the metrics took too long"),
    }
}

impl Page {
    async fn answer(&self, method: &Method, path: &str) -> Response {
        let known = ["/metrics", "/healthz", "/readyz"].contains(&path);
        match path {
            _ if known && !matches!(*method, Method::GET | Method::HEAD) => {
                let mut refused =
                    respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
            "/metrics" => {
                // For `database_up`, `broker_up`, `broker_blocked` and `queue_consumed`, which
                // nothing else would keep.
                self.readiness.database().await;
                self.readiness.broker();
                self.readiness.queues();
                respond(StatusCode::OK, CONTENT_TYPE, self.registry.text())
            }
            // Whoever answers is alive: what is away comes back without a restart.
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => readiness(&self.readiness.problems().await),
            _ => {
                let text = "there are /metrics, /healthz and /readyz\n".to_owned();
                respond(StatusCode::NOT_FOUND, TEXT, text)
            }
        }
    }
}

fn readiness(problems: &[String]) -> Response {
    if problems.is_empty() {
        return respond(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    let mut text = String::new();
    for problem in problems {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{problem}");
    }
    respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
