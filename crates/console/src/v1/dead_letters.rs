//! `/api/v1/dead-letters`: what nobody could take further, looked at, brought back, or thrown away.
//!
//! A look goes through the broker's queues from their beginning. It ends before the request's time
//! is over, and the answer says whether it came to the end of what there is.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_broker::Session;
use fanfare_broker::dead_letters::{Choice, DeadLetter, Kind, Look};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{LARGEST_PAGE, PAGE};
use super::problem::{BROKER_AWAY, Problem, Wrong};
use super::request::{Administrator, Query, id, members, number, text};
use super::view::dead_letter as view;
use crate::api::json::json;
use crate::app::{App, Shared};
use crate::replay::{Replayed, replay};

/// How long a look may take.
const LONGEST_LOOK: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Listed<'a> {
    items: Vec<view::Json<'a>>,
    complete: bool,
}

/// `GET` of all, the oldest of each queue first.
pub(crate) async fn list(
    State(app): State<Shared>,
    _: Administrator,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["queue", "reason", "webhook", "limit"]);
    let choice = Choice {
        ids: Vec::new(),
        kind: query.take("queue", kind),
        reason: query.take("reason", text),
        webhook: query.take("webhook", id),
    };
    let limit = query.take("limit", number(1, LARGEST_PAGE)).unwrap_or(PAGE);
    query.end()?;
    let limit = usize::try_from(limit).unwrap_or(0);
    let until = Instant::now() + LONGEST_LOOK;
    let mut letters: Vec<(Kind, DeadLetter)> = Vec::new();
    let mut look = Look::begin(&session(&app).await?, choice);
    // One more is looked for, to see whether there is more.
    let complete = loop {
        match look.next().await? {
            None => break true,
            Some(_) if letters.len() >= limit || Instant::now() > until => break false,
            Some(found) => letters.push(found),
        }
    };
    look.end().await?;
    let items = letters.iter().map(|(kind, letter)| view::json(*kind, letter)).collect();
    Ok(json(StatusCode::OK, &Listed { items, complete }))
}

/// Which dead letters are meant: those with the ids, or that fit all the rest, or all.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DeadLetterChoice)]
pub(crate) struct Meant {
    /// Their ids.
    #[serde(default)]
    ids: Vec<String>,
    /// All that there are; needed when nothing else says which.
    #[serde(default)]
    all: bool,
    /// Only of this queue: `events` or `deliveries`.
    queue: Option<String>,
    /// Only with this reason.
    reason: Option<String>,
    /// Only of this webhook.
    webhook: Option<String>,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
}

/// What became of dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLettersTaken)]
pub(crate) struct Taken {
    /// How many were taken, or would be.
    count: u64,
    /// Whether they were only counted.
    dry_run: bool,
    /// Whether the whole queue was looked through; otherwise ask again.
    complete: bool,
    /// Ids that were asked for and not found.
    missing: Vec<String>,
    /// Ids of letters that can't go on, because the database does not know their deliveries.
    kept: Vec<String>,
}

/// `POST` to `…/replay`: brings dead letters back into the flow.
pub(crate) async fn replay_all(
    State(app): State<Shared>,
    _: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    take(&app, members(body).await?, true).await
}

/// `POST` to `…/discard`: throws dead letters away for good.
pub(crate) async fn discard(
    State(app): State<Shared>,
    _: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    take(&app, members(body).await?, false).await
}

async fn take(app: &App, meant: Meant, is_replay: bool) -> Result<Response, Problem> {
    let dry_run = meant.dry_run;
    let choice = choice(meant)?;
    let session = session(app).await?;
    let publisher = session.publisher();
    let until = Instant::now() + LONGEST_LOOK;
    let mut look = Look::begin(&session, choice);
    let (mut count, mut kept) = (0, Vec::new());
    let complete = loop {
        let Some((kind, letter)) = look.next().await? else { break true };
        if Instant::now() > until {
            break false;
        }
        if !dry_run && is_replay {
            let replayed = replay(&publisher, &app.store, kind, &letter).await?;
            if replayed != Replayed::Done {
                kept.push(letter.id);
                continue;
            }
        }
        if !dry_run {
            look.take().await?;
        }
        count += 1;
    };
    let missing = look.end().await?;
    tracing::info!(count, dry_run, is_replay, "took dead letters on a person's demand");
    // What was not looked at is not known to be missing.
    let missing = if complete { missing } else { Vec::new() };
    Ok(json(StatusCode::OK, &Taken { count, dry_run, complete, missing, kept }))
}

fn choice(meant: Meant) -> Result<Choice, Problem> {
    let mut wrong = Vec::new();
    let kind = read("queue", meant.queue.as_deref(), kind, &mut wrong);
    let webhook = read("webhook", meant.webhook.as_deref(), id, &mut wrong);
    let choice = Choice { ids: meant.ids, kind, reason: meant.reason, webhook };
    if !wrong.is_empty() {
        return Err(Problem::Invalid(wrong));
    }
    if !meant.all && !choice.narrows() {
        return Err(Problem::invalid("", "say which: ids, reason, webhook, or \"all\": true"));
    }
    if meant.all && !choice.ids.is_empty() {
        return Err(Problem::invalid("all", "leave it out when you give ids"));
    }
    Ok(choice)
}

/// A member's value; what is wrong with it is noted.
fn read<T>(
    name: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, String>,
    wrong: &mut Vec<Wrong>,
) -> Option<T> {
    let refuse = |detail| wrong.push(Wrong { name: name.to_owned(), detail });
    text.and_then(|text| parse(text).map_err(refuse).ok())
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::parse(name).ok_or_else(|| "the queues are events and deliveries".to_owned())
}

async fn session(app: &App) -> Result<Session, Problem> {
    app.broker.session().await.ok_or(Problem::Away(BROKER_AWAY))
}
