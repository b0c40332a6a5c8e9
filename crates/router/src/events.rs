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

mod consequences;
mod directory;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_broker::{Queue, Session};
use fanfare_core::event::Event;
use fanfare_core::ids::EventKey;
use fanfare_core::job::DeliveryGroup;
use fanfare_core::payload::is_removed;
use fanfare_core::reject::{Reason, Reject};
use fanfare_failpoints::failpoint;
use fanfare_store::retry::{Answered, QueryError, retry_divisible, retry_until_available};
use fanfare_store::routing::{Arrival, RouteRules, Routed, Routing};
use fanfare_trace::propagation::first_recorded;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::Config;
use crate::batch_metrics::BatchMetrics;
use crate::error::RouterError;
use crate::finish::{Decided, finish};
use crate::inbound::InboundMessage;
use crate::jobs;
use crate::outgoing::Outgoing;
use consequences::{Consequences, Fate, consequences};
use directory::apply_from_events;

/// How long the first event of a batch waits for others if the last batch had several. So batches are
/// larger under load, and a single event does not wait.
const LINGER: Duration = Duration::from_millis(1);

/// How often the messages that wait in memory are decided again when no other message comes.
const RECHECK: Duration = Duration::from_millis(20);

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
    let batches = Batches { config, stop, done: &done };
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
        waiting = batches.route(messages, Routing::new()?).await?;
    }
    Ok(consumer.cancel().await?)
}

/// What the batches of a session have in common.
#[derive(Clone, Copy)]
struct Batches<'a> {
    config: &'a Config,
    stop: &'a CancellationToken,
    done: &'a mpsc::Sender<Decided>,
}

impl Batches<'_> {
    /// Routes messages and sends them to `finish`; returns those that wait here for the directory.
    async fn route(
        self,
        mut messages: Vec<InboundMessage>,
        routing: Routing,
    ) -> Result<Vec<InboundMessage>, RouterError> {
        let began = Instant::now();
        let Self { config, stop, .. } = self;
        config.metrics.oldest_waiting(oldest(config, &messages));
        failpoint!(RouterTakes, messages.iter().map(InboundMessage::batch_key));
        let failing = apply_from_events(config, stop, &mut messages).await?;
        let (failing, messages) = divide(messages, &failing);
        if !failing.is_empty() {
            self.send_on(aside(config, failing)).await;
        }
        if messages.is_empty() {
            return Ok(messages);
        }
        let spans: Vec<Span> = messages.iter().flat_map(|it| &it.spans).cloned().collect();
        let (arrivals, owners) = arrivals(&messages);
        let Answered { value: routed, in_doubt } = match self
            .plan(routing, &arrivals, first_recorded(&spans))
            .await
        {
            Ok(answered) => answered,
            Err(QueryError::ShuttingDown) => return Err(RouterError::Stopping),
            Err(error) if messages.len() == 1 => return self.route_without(messages, error).await,
            Err(error) => return self.route_parts(messages, routing, error).await,
        };
        failpoint!(RouterPlans, arrivals.iter().map(|arrival| arrival.batch));
        let routed = recognise(config, stop, routing, &arrivals, routed).await?;
        let (events, batches) = (arrivals.len(), arrivals.iter().map(|it| it.batch).collect());
        let mut results: Vec<Vec<(&Event, Routed)>> = messages.iter().map(|_| Vec::new()).collect();
        for ((arrival, owner), routed) in arrivals.iter().zip(owners).zip(routed) {
            results[owner].push((arrival.event, routed));
        }
        let Consequences { kept, settled_rows, fates, groups, suspects, metrics, .. } =
            consequences(config, &messages, results, in_doubt);
        let jobs = self.jobs(groups, &suspects).await?;
        let mut decided = Decided {
            events,
            batches,
            spans,
            jobs,
            kept,
            settled_rows,
            metrics,
            ..Decided::new(began)
        };
        let mut waiting = Vec::new();
        for (message, fate) in messages.into_iter().zip(fates) {
            match fate {
                Fate::Done => decided.settles.push(message.settle),
                Fate::Kept => decided.kept_settles.push(message.settle),
                Fate::Waits => waiting.push(message.waiting()),
            }
        }
        self.send_on(decided).await;
        Ok(waiting)
    }

    /// Writes events with their plans to the ledger.
    async fn plan(
        self,
        routing: Routing,
        arrivals: &[Arrival<'_>],
        span: Span,
    ) -> Result<Answered<Vec<Routed>>, QueryError> {
        let statement = async || {
            let began = Instant::now();
            let plan = self.config.store.route_as(routing, arrivals, self.rules());
            let routed = plan.instrument(span.clone()).await?;
            self.config.metrics.statement(began.elapsed());
            Ok(routed)
        };
        retry_divisible(self.stop, statement).await
    }

    fn rules(self) -> RouteRules {
        let Config { pass_gaps, gap_wait, keep, .. } = *self.config;
        RouteRules { gap_wait: pass_gaps.then_some(gap_wait), recognition: keep.recognition }
    }

    /// Refuses a message that the database rejected, or sets it aside. Returns the messages that wait:
    /// it is the message if the database fails with every statement, so that the message is not the
    /// cause.
    async fn route_without(
        self,
        messages: Vec<InboundMessage>,
        error: QueryError,
    ) -> Result<Vec<InboundMessage>, RouterError> {
        let Self { config, stop, .. } = self;
        let decided = match error {
            QueryError::ShuttingDown => return Err(RouterError::Stopping),
            QueryError::Rejected(error) => {
                tracing::warn!(error = error.chain(), "the database rejected an event");
                refused(config, messages, &error.chain())
            }
            QueryError::Failing(_) if config.store.route(&[], None).await.is_err() => {
                if stop.run_until_cancelled(tokio::time::sleep(UNWELL_PAUSE)).await.is_none() {
                    return Err(RouterError::Stopping);
                }
                return Ok(messages);
            }
            QueryError::Failing(error) => {
                let first = messages.iter().flat_map(|message| &message.events).next();
                tracing::warn!(
                    event.id = first.map(|event| event.id.as_str()),
                    events = messages.iter().map(InboundMessage::len).sum::<usize>(),
                    error = error.chain(),
                    "failed to plan an event; it is set aside and tried again"
                );
                aside(config, messages)
            }
        };
        self.send_on(decided).await;
        Ok(Vec::new())
    }

    /// Routes several messages in parts, because one of them may be why the statement failed.
    async fn route_parts(
        self,
        mut messages: Vec<InboundMessage>,
        routing: Routing,
        error: QueryError,
    ) -> Result<Vec<InboundMessage>, RouterError> {
        let parts = match error {
            QueryError::ShuttingDown => return Err(RouterError::Stopping),
            // There may also be too many messages for one statement.
            QueryError::Failing(_) => {
                let second = messages.split_off(messages.len() / 2);
                vec![messages, second]
            }
            // The other messages must be routed all the same.
            QueryError::Rejected(_) => messages.into_iter().map(|message| vec![message]).collect(),
        };
        let mut waiting = Vec::new();
        for part in parts {
            waiting.extend(Box::pin(self.route(part, routing)).await?);
        }
        Ok(waiting)
    }

    /// The jobs of new events, and rechecks for events whose jobs may be lost.
    async fn jobs(
        self,
        groups: Vec<DeliveryGroup>,
        suspects: &[EventKey],
    ) -> Result<Outgoing, RouterError> {
        let Self { config, stop, .. } = self;
        let copies = retry_until_available(stop, || config.store.route_unsettled(suspects)).await?;
        config.metrics.planned(groups.iter().map(|group| group.deliveries.len()).sum());
        let mut jobs = jobs::inline(groups, config.broker.delivery_queues())?;
        jobs.extend(jobs::rechecks(&copies, config.broker.delivery_queues())?);
        Ok(jobs)
    }

    async fn send_on(self, decided: Decided) {
        // The receiver is gone if publishing has failed. Then this session ends, and the messages are
        // redelivered.
        let _ = self.done.send(decided).await;
    }
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
            let differs = |kept: &String| *kept != event.notification && !is_removed(kept);
            if kept.get(&event.key).is_some_and(differs) {
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
    config.metrics.set_aside(messages.len());
    Decided {
        events: messages.iter().map(InboundMessage::len).sum(),
        kept: messages.iter().map(InboundMessage::set_aside).collect(),
        kept_settles: messages.into_iter().map(|message| message.settle).collect(),
        ..Decided::new(Instant::now())
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
        events: messages.iter().map(InboundMessage::len).sum(),
        kept: messages.iter().map(letter).collect(),
        metrics,
        kept_settles: messages.into_iter().map(|message| message.settle).collect(),
        ..Decided::new(Instant::now())
    }
}
