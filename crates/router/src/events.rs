//! Events in: from the queue to the ledger, then jobs to the broker, then the acknowledgement.
//!
//! This order makes it safe. A router that dies before the ledger has the events has done nothing. If
//! it dies later, the messages are redelivered, their events are found in the ledger, and rechecks are
//! published for jobs that may be lost. A router that only lost the ledger's answer finds its own rows
//! by their mark, and publishes their jobs as if it had received the answer. While the jobs of one
//! batch are published, the next batch is written to the ledger.
//!
//! A statement that fails although the database is available is divided until one message is left. That
//! message is set aside for a while, so that it does not block the messages behind it.

mod directory;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_broker::{Queue, Session, Settle};
use fanfare_core::event::Event;
use fanfare_core::ids::EventKey;
use fanfare_core::job::Unit;
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::retry::{Answered, QueryError, retry_divisible, retry_until_available};
use fanfare_store::routing::{Arrival, Routed, Routing};
use fanfare_trace::propagation::first_recorded;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::Config;
use crate::batch_metrics::BatchMetrics;
use crate::error::RouterError;
use crate::finish::{Decided, finish};
use crate::inbound::{InboundMessage, Outgoing};
use crate::jobs;
use directory::apply_from_events;

/// How long the first event of a batch waits for others if the last batch had several. So batches are
/// larger under load, and a single event does not wait.
const LINGER: Duration = Duration::from_millis(1);

/// How often the messages that wait in memory are decided again when no other message comes.
const RECHECK: Duration = Duration::from_millis(20);
/// The most messages that wait in memory, so that the prefetch has room for others.
const MAX_WAITING: usize = 64;

/// The pause before a failing statement is tried again if the database fails with every statement.
const UNWELL_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let (decided, finishing) = mpsc::channel(1);
    let receiving = receive(config, session, stop, decided);
    tokio::try_join!(receiving, finish(config, session, stop, finishing)).map(drop)
}

/// Receives messages and routes them.
async fn receive(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    done: mpsc::Sender<Decided>,
) -> Result<(), RouterError> {
    let mut consumer = session.consumer(Queue::Events, config.prefetch).await?;
    // Two batches are under way at a time: one is routed here, the other one is published.
    let most = usize::from(config.prefetch / 2).max(1);
    let parse = |incoming| InboundMessage::parse(config, incoming);
    let mut waiting: Vec<InboundMessage> = Vec::new();
    let mut linger = Duration::ZERO;
    loop {
        config.metrics.waiting(waiting.iter().map(InboundMessage::len).sum());
        config.metrics.oldest_waiting(oldest(config, &waiting));
        let longest = if waiting.is_empty() { Duration::MAX } else { RECHECK };
        let next = tokio::time::timeout(longest, consumer.next_batch(most, linger));
        let mut messages: Vec<InboundMessage> = match stop.run_until_cancelled(next).await {
            None | Some(Ok(None)) => break,
            Some(Ok(Some(batch))) => {
                let batch = batch?;
                linger = if batch.len() > 1 { LINGER } else { Duration::ZERO };
                batch.into_iter().map(parse).collect()
            }
            Some(Err(_)) => Vec::new(),
        };
        messages.append(&mut waiting);
        waiting = route(config, stop, messages, &done, Routing::new()?).await?;
    }
    Ok(consumer.cancel().await?)
}

/// Routes messages and sends them to `finish`; returns those that wait here for the directory.
async fn route(
    config: &Config,
    stop: &CancellationToken,
    mut messages: Vec<InboundMessage>,
    done: &mpsc::Sender<Decided>,
    routing: Routing,
) -> Result<Vec<InboundMessage>, RouterError> {
    let began = Instant::now();
    config.metrics.oldest_waiting(oldest(config, &messages));
    let failing = apply_from_events(config, stop, &mut messages).await?;
    let (failing, messages) = divide(messages, &failing);
    if !failing.is_empty() {
        send_on(done, aside(config, failing)).await;
    }
    let spans: Vec<Span> = messages.iter().flat_map(|it| &it.spans).cloned().collect();
    let first = first_recorded(&spans);
    let (arrivals, owners) = arrivals(&messages);
    let gap_wait = config.pass_gaps.then_some(config.gap_wait);
    let statement = async || {
        let began = Instant::now();
        let plan = config.store.route_as(routing, &arrivals, gap_wait);
        let routed = plan.instrument(first.clone()).await?;
        config.metrics.statement(began.elapsed());
        Ok(routed)
    };
    let Answered { value: routed, in_doubt } = match retry_divisible(stop, statement).await {
        Err(QueryError::Failing(error)) if messages.len() == 1 => {
            if config.store.route(&[], gap_wait).await.is_err() {
                // The database fails with every statement, so this message is not the cause.
                if stop.run_until_cancelled(tokio::time::sleep(UNWELL_PAUSE)).await.is_none() {
                    return Err(RouterError::Stopping);
                }
                return Ok(messages);
            }
            tracing::warn!(
                event.id = messages[0].events.first().map(|event| event.id.as_str()),
                events = messages[0].len(),
                error = error.chain(),
                "failed to plan an event; it is set aside and tried again"
            );
            send_on(done, aside(config, messages)).await;
            return Ok(Vec::new());
        }
        Err(QueryError::Failing(_)) => {
            // There may be too many messages for one statement, or one of them may be the cause.
            let mut first = messages;
            let second = first.split_off(first.len() / 2);
            let mut waiting = Box::pin(route(config, stop, first, done, routing)).await?;
            waiting.extend(Box::pin(route(config, stop, second, done, routing)).await?);
            return Ok(waiting);
        }
        Err(QueryError::Rejected(error)) if messages.len() == 1 => {
            tracing::warn!(error = error.chain(), "the database rejected an event");
            send_on(done, refused(config, messages, &error.chain())).await;
            return Ok(Vec::new());
        }
        Err(QueryError::Rejected(_)) => {
            // One of the messages is the cause. The others must be routed all the same.
            let mut waiting = Vec::new();
            for message in messages {
                waiting.extend(Box::pin(route(config, stop, vec![message], done, routing)).await?);
            }
            return Ok(waiting);
        }
        routed => routed?,
    };
    let routed = recognise(config, stop, routing, &arrivals, routed).await?;
    let mut results: Vec<Vec<(&Event, Routed)>> = messages.iter().map(|_| Vec::new()).collect();
    for ((arrival, owner), routed) in arrivals.iter().zip(owners).zip(routed) {
        results[owner].push((arrival.event, routed));
    }
    let Consequences { kept, has_kept, held, units, suspects, metrics } =
        consequences(config, &messages, results, in_doubt);
    let copies = retry_until_available(stop, || config.store.route_unsettled(&suspects)).await?;
    config.metrics.planned(units.iter().map(|unit| unit.deliveries.len()).sum());
    let mut jobs = jobs::inline(units, config.broker.delivery_queues())?;
    jobs.extend(jobs::rechecks(&copies, config.broker.delivery_queues())?);
    let events = arrivals.len();
    let (waiting, settled): (Vec<_>, Vec<_>) =
        messages.into_iter().enumerate().partition(|(index, _)| held.contains(index));
    let (kept_ones, done_ones): (Vec<_>, Vec<_>) =
        settled.into_iter().partition(|(index, _)| has_kept.contains(index));
    let settles = |ones: Vec<(usize, InboundMessage)>| -> Vec<Settle> {
        ones.into_iter().map(|(_, message)| message.settle).collect()
    };
    let (kept_settles, settles) = (settles(kept_ones), settles(done_ones));
    let decided = Decided { began, events, spans, jobs, kept, metrics, settles, kept_settles };
    send_on(done, decided).await;
    Ok(waiting.into_iter().map(|(_, message)| message.waiting()).collect())
}

/// What follows from messages after the ledger's answer.
#[derive(Default)]
struct Consequences {
    /// Dead letters and held messages to publish, and the inbound messages that have some.
    kept: Outgoing,
    has_kept: HashSet<usize>,
    /// Messages that wait here for the directory.
    held: HashSet<usize>,
    /// The new events, for jobs.
    units: Vec<Unit>,
    /// The events whose jobs may be lost.
    suspects: Vec<EventKey>,
    metrics: BatchMetrics,
}

fn consequences(
    config: &Config,
    messages: &[InboundMessage],
    results: Vec<Vec<(&Event, Routed)>>,
    in_doubt: bool,
) -> Consequences {
    let mut it = Consequences::default();
    for (index, (message, results)) in messages.iter().zip(results).enumerate() {
        if results.iter().any(|(_, routed)| *routed == Routed::Forgotten) {
            it.kept.push(message.forgotten(config));
            it.has_kept.insert(index);
            message.count_dead(&mut it.metrics, Reason::DirectoryBehind);
            continue;
        }
        if results.iter().any(|(_, routed)| *routed == Routed::Held) {
            if !message.has_waited() {
                config.metrics.held(message.len());
            }
            if message.may_wait_here() && it.held.len() < MAX_WAITING {
                it.held.insert(index);
                continue;
            }
            if message.is_overdue(config) {
                it.kept.push(message.overdue(config));
                message.count_dead(&mut it.metrics, Reason::DirectoryBehind);
            } else {
                it.kept.push(message.hold(config));
            }
            it.has_kept.insert(index);
            continue;
        }
        let rejected = message.rejected((config.clock)());
        if !rejected.is_empty() {
            it.kept.extend(rejected);
            it.has_kept.insert(index);
        }
        message.count(&mut it.metrics, &results, (config.clock)());
        it.suspects.extend(message.suspects(&results, in_doubt));
        it.units.extend(jobs::unit(message.batch_key(), results));
    }
    it
}

/// Counts events that an earlier try of this routing wrote as new, because no other router knows that
/// try. Warns of events that have the identity of another event.
async fn recognise(
    config: &Config,
    stop: &CancellationToken,
    routing: Routing,
    arrivals: &[Arrival<'_>],
    mut routed: Vec<Routed>,
) -> Result<Vec<Routed>, RouterError> {
    let known = |routed: &[Routed]| -> Vec<EventKey> {
        let known = arrivals.iter().zip(routed).filter(|(_, it)| **it == Routed::Known);
        known.map(|(arrival, _)| arrival.event.key).collect()
    };
    let keys = known(&routed);
    let mut own = retry_until_available(stop, || config.store.route_own(routing, &keys)).await?;
    for (arrival, routed) in arrivals.iter().zip(&mut routed) {
        if let Some(written) = own.remove(&arrival.event.key) {
            *routed = written;
        }
    }
    // This is only for a warning, so an error is ignored.
    if let Ok(kept) = config.store.route_notifications(&known(&routed)).await {
        for Arrival { event, .. } in arrivals {
            if kept.get(&event.key).is_some_and(|kept| *kept != event.notification) {
                config.metrics.differing();
                tracing::warn!(
                    event.id = event.id,
                    event.source = event.source,
                    "an event has the source and id of an earlier one and other content; it is not \
                     delivered"
                );
            }
        }
    }
    Ok(routed)
}

/// Messages that are set aside, and the others.
fn divide(
    messages: Vec<InboundMessage>,
    aside: &HashSet<usize>,
) -> (Vec<InboundMessage>, Vec<InboundMessage>) {
    let (aside, others): (Vec<_>, Vec<_>) =
        messages.into_iter().enumerate().partition(|(index, _)| aside.contains(index));
    let messages = |numbered: Vec<(usize, InboundMessage)>| {
        numbered.into_iter().map(|(_, message)| message).collect()
    };
    (messages(aside), messages(others))
}

async fn send_on(done: &mpsc::Sender<Decided>, decided: Decided) {
    // The receiver is gone if publishing has failed. Then this session ends, and the messages are
    // redelivered.
    let _ = done.send(decided).await;
}

/// The time of the oldest of these events, in Unix milliseconds. An event without a time counts from
/// now, or from when it was first held.
fn oldest(config: &Config, messages: &[InboundMessage]) -> Option<i64> {
    let now = (config.clock)();
    messages.iter().filter_map(|message| message.oldest(now)).min()
}

/// The events of the messages, each key once, and the index of the message of each.
fn arrivals(messages: &[InboundMessage]) -> (Vec<Arrival<'_>>, Vec<usize>) {
    let mut seen: HashSet<EventKey> = HashSet::new();
    let (mut arrivals, mut owners) = (Vec::new(), Vec::new());
    for (owner, message) in messages.iter().enumerate() {
        let batch = message.batch_key();
        for (position, event) in message.events.iter().enumerate() {
            if seen.insert(event.key) {
                arrivals.push(Arrival { event, batch, position });
                owners.push(owner);
            }
        }
    }
    (arrivals, owners)
}

/// Messages to set aside.
fn aside(config: &Config, messages: Vec<InboundMessage>) -> Decided {
    let events = messages.iter().map(InboundMessage::len).sum();
    config.metrics.set_aside(messages.len());
    Decided {
        began: Instant::now(),
        events,
        spans: Vec::new(),
        jobs: Outgoing::new(),
        kept: messages.iter().map(InboundMessage::set_aside).collect(),
        metrics: BatchMetrics::default(),
        settles: Vec::new(),
        kept_settles: messages.into_iter().map(|message| message.settle).collect(),
    }
}

/// Messages to dead-letter whole.
fn refused(config: &Config, messages: Vec<InboundMessage>, detail: &str) -> Decided {
    let letter = |message: &InboundMessage| {
        message.dead(&Reject::new(Reason::BadData, detail), (config.clock)())
    };
    let mut metrics = BatchMetrics::default();
    for message in &messages {
        message.count_dead(&mut metrics, Reason::BadData);
    }
    Decided {
        began: Instant::now(),
        events: messages.iter().map(InboundMessage::len).sum(),
        spans: Vec::new(),
        jobs: Outgoing::new(),
        kept: messages.iter().map(letter).collect(),
        metrics,
        settles: Vec::new(),
        kept_settles: messages.into_iter().map(|message| message.settle).collect(),
    }
}
