//! The overview for administrators: what arrives, what waits, and what is of concern.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::overview::{self, Concern, Overview, OverviewError};
use fanfare_app::publisher::QueueDepth;
use fanfare_core::revisions::Hold;
use fanfare_store::processes::Process;
use fanfare_store::statistics;

use super::DEAD_LETTERS;
use super::components::{Hour, Moment, Sparkline};
use super::error::PageError;
use super::fields;
use super::page::{Frame, page};
use super::storage::bytes;
use super::visitor::Visitor;
use crate::app::Shared;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    /// What a person should look at, and where: a path and a link's text.
    concerns: Vec<(String, Option<(&'static str, &'static str)>)>,
    chart: Sparkline,
    attempts: u64,
    failed: u64,
    /// The share of attempts that succeeded; `None` without attempts.
    rate: Option<String>,
    /// How long half of the attempts took, and 95 of 100.
    answers: Option<(String, String)>,
    oldest: Option<Moment>,
    dead_events: i64,
    dead_deliveries: i64,
    failing: i64,
    paused: i64,
    held: i64,
    queues: Option<Vec<QueueDepth>>,
    processes: Vec<ProcessRow>,
    breakers: Vec<Breaker>,
    size: String,
    /// How much of the disk is used, from 0 to 100 percent.
    used: Option<u64>,
}

/// A process as it is shown.
struct ProcessRow {
    role: String,
    place: String,
    version: String,
    since: Moment,
    seen: Moment,
    /// The text and the class of its badge.
    state: (&'static str, &'static str),
    problem: Option<String>,
}

/// A host with an open circuit breaker.
struct Breaker {
    host: String,
    /// The address of its dead letters.
    path: String,
    workers: usize,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let (actor, limits) = (visitor.actor(), app.storage);
    let shown = overview::show(&app.context, &actor, limits, app.longest_chain);
    let shown = Box::pin(shown).await?;
    Ok(page(StatusCode::OK, &of(visitor.frame().of_overview(), shown)))
}

fn of(frame: Frame, shown: Overview) -> OverviewPage {
    let Overview { ledger, hours, queues, storage, processes, open_breakers, concerns } = shown;
    let hours: Vec<Hour> = hours.iter().map(hour).collect();
    let (succeeded, failed) = hours
        .iter()
        .fold((0, 0), |(succeeded, failed), it| (succeeded + it.succeeded, failed + it.failed));
    let attempts: u64 = succeeded + failed;
    let size = storage.sizes.bytes();
    let used = storage.disk.map(|disk| {
        let used = u128::try_from(size).unwrap_or_default() * 100 / u128::from(disk.max(1));
        u64::try_from(used.min(100)).unwrap_or(100)
    });
    OverviewPage {
        frame,
        concerns: concerns.into_iter().map(|it| (concern(it), whither(it))).collect(),
        chart: Sparkline(hours),
        attempts,
        failed,
        rate: percent(succeeded, attempts),
        answers: ledger.answers.map(|it| (milliseconds(it.half), milliseconds(it.most))),
        oldest: ledger.oldest.map(Moment),
        dead_events: ledger.dead_events,
        dead_deliveries: ledger.dead_deliveries,
        failing: ledger.failing,
        paused: ledger.paused,
        held: ledger.held,
        queues,
        processes: processes.into_iter().map(process).collect(),
        breakers: open_breakers.into_iter().map(breaker).collect(),
        size: bytes(size),
        used,
    }
}

fn process(process: Process) -> ProcessRow {
    let state = match (process.is_missing, &process.problem) {
        (true, _) => ("Not seen", "bad"),
        (false, Some(_)) => ("Can’t work", "bad"),
        (false, None) => ("Works", "good"),
    };
    ProcessRow {
        role: process.role,
        place: format!("{}, process {}", process.host, process.pid),
        version: process.version,
        since: Moment(process.started_at),
        seen: Moment(process.seen_at),
        state,
        problem: process.problem,
    }
}

fn breaker((host, workers): (String, usize)) -> Breaker {
    let path = fields::path(DEAD_LETTERS, &[("host", without_port(&host)), ("by", "cause")]);
    Breaker { host, path, workers }
}

/// The name of a host, by which dead letters are grouped.
fn without_port(host: &str) -> &str {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name)
}

fn hour(hour: &statistics::Hour) -> Hour {
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let all: i64 = hour.outcomes.values().sum();
    let succeeded = hour.outcomes.get("delivered").copied().unwrap_or_default();
    Hour { succeeded: count(succeeded), failed: count(all - succeeded) }
}

/// A share in percent, with one digit after the point. It is never rounded up to 100.
fn percent(part: u64, whole: u64) -> Option<String> {
    let permille = (u128::from(part) * 1000).checked_div(u128::from(whole))?;
    Some(format!("{}.{}", permille / 10, permille % 10))
}

fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

fn concern(concern: Concern) -> String {
    match concern {
        Concern::BrokerAway => {
            "The message broker can’t be reached. Nothing is lost; events wait at the report server."
                .to_owned()
        }
        Concern::NoRouter => "No router takes events: start one.".to_owned(),
        Concern::NoWorker => "No worker sends deliveries: start one.".to_owned(),
        Concern::Held(Hold::Incomplete) => {
            "Every event waits, because the directory is not complete yet.".to_owned()
        }
        Concern::Held(Hold::SnapshotRefused) => {
            "Every event waits, because a snapshot of the directory was refused.".to_owned()
        }
        Concern::Failing => {
            "More attempts fail than succeed in this hour and the one before.".to_owned()
        }
        Concern::Died(1) => "One letter died within the last hour.".to_owned(),
        Concern::Died(count) => format!("{count} letters died within the last hour."),
        Concern::Undecided(1) => "One older dead letter waits for a decision.".to_owned(),
        Concern::Undecided(count) => format!("{count} older dead letters wait for a decision."),
    }
}

/// Where a person finds out more: a path and a link's text.
fn whither(concern: Concern) -> Option<(&'static str, &'static str)> {
    match concern {
        Concern::BrokerAway | Concern::NoRouter | Concern::NoWorker => None,
        Concern::Held(_) => Some(("/directory", "Directory")),
        Concern::Failing => Some(("/webhooks", "Webhooks and their results")),
        Concern::Died(_) | Concern::Undecided(_) => {
            Some(("/dead-letters?by=host", "Which receivers, and why"))
        }
    }
}

impl From<OverviewError> for PageError {
    fn from(error: OverviewError) -> Self {
        match error {
            OverviewError::NotAdministrator(_) => Self::Unknown,
            OverviewError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up_to_all() {
        let shown = [(0, 0), (0, 3), (1, 3), (99_999, 100_000), (7, 7)].map(|(a, b)| percent(a, b));
        let expected = [None, Some("0.0"), Some("33.3"), Some("99.9"), Some("100.0")];
        assert_eq!(shown, expected.map(|it| it.map(str::to_owned)));
    }

    #[test]
    fn a_host_is_named_without_its_port() {
        let shown = ["a.example", "a.example:8080", "[::1]", "[::1]:80"].map(without_port);
        assert_eq!(shown, ["a.example", "a.example", "[::1]", "[::1]"]);
    }

    #[test]
    fn long_times_are_shown_in_seconds() {
        let shown = [0, 999, 1000, 15_999].map(|ms| milliseconds(Duration::from_millis(ms)));
        assert_eq!(shown, ["0 ms", "999 ms", "1.0 s", "15.9 s"]);
    }
}
