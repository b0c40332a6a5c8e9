//! `fanfare listen`: a receiver for developers of receivers. It checks each notification as a receiver
//! should, prints it, and answers as the options say.
//!
//! [`check`] checks a POST and does no input or output, [`show`] formats it as text or JSON, [`record`]
//! writes it to a file.

mod check;
mod record;
mod show;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fanfare_app::clock;
use fanfare_core::webhook::Secret;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use record::Recorder;

use crate::lifecycle::Signals;
use crate::output;

/// The largest body that is accepted, in bytes. A batch of events has at most a mebibyte.
const LARGEST_BODY: usize = 8 * 1024 * 1024;

/// How long unfinished requests may take after the signal to end.
const GRACE: Duration = Duration::from_secs(2);

/// The arguments of `fanfare listen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The port; 0 chooses a free one, which is printed on stderr
    #[arg(long, value_name = "N")]
    port: u16,
    /// The webhook's secret; without it, notifications are printed but not checked
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    secret: Option<Secret>,
    /// The status to answer with
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Answer the first N notifications with 500
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_first: u64,
    /// The delay before each answer
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    delay: u64,
    /// Print one JSON object a line for each POST
    ///
    /// Keys: at, method, path, bytes, id, attempt, msSignature, webhookSignature, timestamp (each
    /// true, false, or null if no secret was given or the header is missing),
    /// properties, notifications, problems (texts; empty if there are none), status (the answer's).
    #[arg(long, verbatim_doc_comment)]
    json: bool,
    /// Add each POST to the end of this file, one JSON object a line with time, url, headers and body,
    /// for `fanfare shadow compare`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
}

fn secret(text: &str) -> Result<Secret, String> {
    text.parse().map_err(|_| "a secret has 32 to 128 characters".to_owned())
}

/// Receives notifications until a signal ends it.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let recorder = args.record.as_deref().map(Recorder::open).transpose()?;
    let wanted = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(wanted).await.with_context(|| {
        format!("failed to listen on {wanted}; choose another port, or 0 for a free one")
    })?;
    let address = listener.local_addr().context("failed to find out the port")?;
    output::note(&format!("listening on http://{address}"));
    let receiver = Arc::new(Receiver { args, recorder, counts: Counts::default() });
    receiver.note();
    let router = Router::new().fallback(receive).with_state(Arc::clone(&receiver));
    let stop = CancellationToken::new();
    let serve =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let mut serving = tokio::spawn(serve.into_future());
    tokio::select! {
        ended = &mut serving => {
            return Err(anyhow!("the receiver ended without a signal: {ended:?}"));
        }
        _ = signals.next() => stop.cancel(),
    }
    // A client that keeps its connection open does not delay the end.
    let _ = timeout(GRACE, serving).await;
    receiver.note();
    output::note(&receiver.counts.summary());
    Ok(())
}

/// The state that the handlers share.
struct Receiver {
    args: Args,
    recorder: Option<Recorder>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    posts: AtomicU64,
    notifications: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn summary(&self) -> String {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} notifications in {} posts; {} refused for their signature, {} failed on purpose",
            of(&self.notifications),
            of(&self.posts),
            of(&self.refused),
            of(&self.failed),
        )
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    match *request.method() {
        Method::POST => receive_post(&receiver, request).await,
        Method::GET => receive_get(&receiver, request.uri()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "notifications are sent with POST\n"),
    }
}

/// Answers the verification of a new webhook's URL.
fn receive_get(receiver: &Receiver, uri: &Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let echo = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "echo");
    let Some((_, value)) = echo else {
        return text(StatusCode::OK, "fanfare listen: send notifications here with POST\n");
    };
    let line = format!("GET {} verifies this URL; answered with the value of echo", uri.path());
    // In JSON mode stdout holds notifications only.
    if receiver.args.json {
        output::note(&output::plain(&line));
    } else if let Err(error) = output::print(&format!("{}\n", output::plain(&line))) {
        output::note(&format!("fanfare: failed to print: {error}"));
    }
    text(StatusCode::OK, &value)
}

async fn receive_post(receiver: &Receiver, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = body::to_bytes(body, LARGEST_BODY).await else {
        output::note("a body was incomplete or larger than 8 MiB; answered 413");
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 8 MiB\n");
    };
    let now = clock::now();
    if let Some(recorder) = &receiver.recorder {
        recorder.post(now, &parts, &body);
    }
    let post = check::Post::new(&parts.headers, &body, receiver.args.secret.as_ref(), now);
    let status = receiver.status(&post);
    let shown =
        show::Shown { at: now, path: parts.uri.path(), status: status.as_u16(), post: &post };
    let rendered = if receiver.args.json { shown.json_line() } else { shown.text() };
    if let Err(error) = output::print(&rendered) {
        output::note(&format!("fanfare: failed to print: {error}"));
    }
    if receiver.args.delay > 0 {
        sleep(Duration::from_millis(receiver.args.delay)).await;
    }
    text(status, &post.problems.join("\n"))
}

impl Receiver {
    /// Records that it is recording.
    fn note(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.note(clock::now());
        }
    }

    /// Counts a POST and decides the status of its answer.
    fn status(&self, post: &check::Post) -> StatusCode {
        self.counts.posts.fetch_add(1, Ordering::Relaxed);
        let notifications = u64::try_from(post.notifications.len()).unwrap_or_default();
        self.counts.notifications.fetch_add(notifications, Ordering::Relaxed);
        if post.forged {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return StatusCode::UNAUTHORIZED;
        }
        let still = |failed: u64| (failed < self.args.fail_first).then_some(failed + 1);
        let fail = self.counts.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, still);
        if fail.is_ok() {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        StatusCode::from_u16(self.args.status).unwrap_or(StatusCode::OK)
    }
}

fn text(status: StatusCode, body: &str) -> Response {
    let mut response = (status, Body::from(body.to_owned())).into_response();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
