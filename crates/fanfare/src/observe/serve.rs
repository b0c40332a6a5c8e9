//! The answers of `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanfare_http::Limits;
use fanfare_metrics::{CONTENT_TYPE, Registry};

use super::readiness::Readiness;

/// The limits of clients: small requests, one for each connection.
pub(super) const LIMITS: Limits = Limits {
    connections: 32,
    head: Duration::from_secs(10),
    idle: Duration::from_secs(10),
    life: Duration::ZERO,
    max_head: 16 * 1024,
};

/// The methods of every path.
const ALLOWED: (HeaderName, &str) = (header::ALLOW, "GET, HEAD");

/// The state that the handlers share.
pub(super) struct Page {
    pub(super) registry: Registry,
    pub(super) readiness: Readiness,
    /// Whether Fanfare is in shadow mode.
    pub(super) shadow: bool,
}

/// The route table.
pub(super) fn router(page: Page) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        // A process that answers is alive. An unreachable server is not a reason for a restart.
        .route("/healthz", get("ok\n"))
        .route("/readyz", get(readiness))
        .fallback((
            StatusCode::NOT_FOUND,
            "not found; the paths are /metrics, /healthz and /readyz\n",
        ))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, [ALLOWED], "the method must be GET or HEAD\n")
        })
        .layer(map_response(not_stored))
        .with_state(Arc::new(page))
}

async fn metrics(State(page): State<Arc<Page>>) -> impl IntoResponse {
    // These calls set the gauges `database_up`, `broker_up`, `broker_blocked` and `queue_consumed`.
    page.readiness.database().await;
    page.readiness.broker();
    page.readiness.queues();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.registry.text())
}

async fn readiness(State(page): State<Arc<Page>>) -> (StatusCode, String) {
    let problems = page.readiness.problems().await;
    if problems.is_empty() {
        let shadow = if page.shadow { "shadow mode: nothing is sent to receivers\n" } else { "" };
        (StatusCode::OK, format!("ready\n{shadow}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
    }
}

async fn not_stored(answer: Response) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], answer)
}
