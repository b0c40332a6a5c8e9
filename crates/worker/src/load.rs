//! Step 2 of a job: reads what must be known of its deliveries before they are decided.
//!
//! A first attempt whose job carries its events asks only the limiters. About any other attempt, three
//! things are asked in this order: whether its endpoint may get a request now ([`admission`]), whether
//! another worker has it (a lease), and what the ledger and the directory say about it.

mod admission;
mod directory;

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use fanfare_core::delivery::{Decision, Facts, LastRow, LeaseAnswer, WebhookState, decide};
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{AttemptRef, DeliveryGroup, Recipient};
use fanfare_core::webhook::Webhook;
use fanfare_failpoints::failpoint;
use fanfare_store::attempts::{DeliveryHistory, PlannedEvent};
use fanfare_store::claims::Claim;

use crate::claimer::HeldLease;
use crate::context::Context;
use crate::delivery::{DueDelivery, RetrySeries};
use crate::endpoint_limiter::Arrival;
use crate::error::WorkerError;
use crate::webhook_cache::Found;
use admission::admit_one;
pub(crate) use admission::{Admission, admit, admit_despite_hold};
use directory::ask_directory;

/// The most bytes of a delivery's notifications that are read together with those of other
/// deliveries. Larger ones are read alone.
const INLINE: usize = 16 * 1024;

/// The value for `inline` when no notifications are needed.
pub(crate) const NO_PAYLOAD: usize = 0;

/// A delivery with everything that was read about it.
pub(crate) struct Loaded<'a> {
    pub(crate) delivery: DueDelivery,
    /// What the decision depends on.
    pub(crate) facts: Facts,
    pub(crate) series: RetrySeries,
    /// `None` if it was deleted or can't be read.
    pub(crate) webhook: Option<Arc<Webhook>>,
    pub(crate) content: Content<'a>,
    /// The events that its job carries, if it carries any.
    pub(crate) groups: &'a [DeliveryGroup],
    pub(crate) admission: Admission,
    /// The lease, if the attempt has one.
    pub(crate) held: Option<HeldLease>,
    /// The time from which surely no other worker has the attempt.
    pub(crate) from: Instant,
}

/// Where the events of a delivery come from.
pub(crate) enum Content<'a> {
    /// From its job.
    Inline { group: &'a DeliveryGroup, to: &'a Recipient },
    /// From the ledger.
    Ledger(Box<DeliveryHistory>),
}

impl Loaded<'_> {
    /// How it came to the limiters. A job by reference may have been deferred before.
    pub(crate) fn arrival(&self) -> Arrival {
        arrival(self.groups)
    }
}

pub(crate) fn arrival(groups: &[DeliveryGroup]) -> Arrival {
    if groups.is_empty() { Arrival::Returning } else { Arrival::New }
}

/// Loads `dues`, the first attempts of a job that carries its events. `now` is a time at which their
/// plan holds, so that the ledger and the directory need not be asked.
pub(crate) async fn load_inline<'a>(
    context: &Context,
    groups: &'a [DeliveryGroup],
    dues: Vec<AttemptRef>,
    now: DateTime<Utc>,
) -> Result<impl ExactSizeIterator<Item = Loaded<'a>> + use<'a>, WorkerError> {
    let from = Instant::now();
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
    failpoint!(WorkerBegins, &dues);
    let (deadline, shadow) = (context.config.policy.deadline, context.config.shadow);
    let of_group = |group: &'a DeliveryGroup| group.deliveries.iter().map(move |to| (group, to));
    let contents: Vec<(&DeliveryGroup, &Recipient)> = groups.iter().flat_map(of_group).collect();
    Ok(dues.into_iter().zip(contents).map(move |(due, (group, to))| {
        let (webhook, state) = found.of(due.webhook);
        Loaded {
            delivery: DueDelivery::first(due),
            facts: Facts {
                now,
                sequence: due.sequence,
                redelivered: false,
                lease: LeaseAnswer::NotAsked,
                planned_at: Some(group.received_at),
                last: None,
                started_at: group.received_at,
                webhook: state,
                // The plan decides alone.
                owner: OwnerState::Deleted,
                directory_held: false,
                events: group.event_ids.len(),
                payload_removed: false,
                denied: None,
                deferred: None,
                shadow,
                deadline,
            },
            series: RetrySeries::first(group.received_at, 0),
            webhook,
            content: Content::Inline { group, to },
            groups,
            admission: Admission::Unneeded,
            held: None,
            from,
        }
    }))
}

/// Asks the pacer and the limiter for a delivery whose job carries its events.
pub(crate) async fn admit_inline(
    context: &Context,
    loaded: &mut Loaded<'_>,
) -> Result<(), WorkerError> {
    let Some(webhook) = loaded.webhook.as_deref().filter(|webhook| !webhook.paused) else {
        return Ok(());
    };
    let mut admission = admit_one(context, webhook, Arrival::New, None).await?;
    if let Admission::Soon(waiting) = admission {
        let slot = Some(waiting.wait().await);
        loaded.delivery.slot = slot;
        admission = admit_one(context, webhook, Arrival::New, slot).await?;
    }
    if let Admission::Deferred(deferred) = admission {
        let started_at = loaded.series.started_at;
        loaded.facts.deferred = context.pacer.but_for_deadline(webhook.id, deferred, started_at);
    }
    loaded.admission = admission;
    Ok(())
}

/// Loads deliveries that their job names by reference, after the pacer and the limiter have answered.
/// The result has their order.
pub(crate) async fn load<'a>(
    context: &Context,
    deliveries: &[DueDelivery],
    admissions: Vec<Admission>,
    groups: &'a [DeliveryGroup],
) -> Result<Vec<Loaded<'a>>, WorkerError> {
    let deferred = load_deferred(context, deliveries, &admissions, groups).await?;
    let (others, admissions): (Vec<DueDelivery>, Vec<Admission>) = deliveries
        .iter()
        .zip(admissions)
        .zip(&deferred)
        .filter_map(|(it, deferred)| deferred.is_none().then_some(it))
        .unzip();
    let mut leased = load_leased(context, &others, admissions, groups).await?.into_iter();
    let loaded: Vec<Loaded<'_>> =
        deferred.into_iter().filter_map(|deferred| deferred.or_else(|| leased.next())).collect();
    // A delivery that is missing here would be acknowledged without an attempt.
    if loaded.len() == deliveries.len() { Ok(loaded) } else { Err(WorkerError::Incomplete) }
}

/// Loads the deliveries that are put off without a lease. The others are `None`, also those that are
/// no longer owed: their end is recorded with a lease.
async fn load_deferred<'a>(
    context: &Context,
    deliveries: &[DueDelivery],
    admissions: &[Admission],
    groups: &'a [DeliveryGroup],
) -> Result<Vec<Option<Loaded<'a>>>, WorkerError> {
    let is_deferred = |admission: &Admission| matches!(admission, Admission::Deferred(_));
    let dues: Vec<AttemptRef> = deliveries
        .iter()
        .zip(admissions)
        .filter_map(|(delivery, admission)| is_deferred(admission).then_some(delivery.due))
        .collect();
    let mut known = read(context, &dues, NO_PAYLOAD).await?.into_iter();
    let mut loaded = Vec::new();
    for (delivery, admission) in deliveries.iter().zip(admissions) {
        loaded.push(match admission {
            Admission::Deferred(deferred) => known.next().map(|known| {
                let mut loaded = known.loaded(context, *delivery, groups);
                let (webhook, started_at) = (delivery.due.webhook, loaded.series.started_at);
                loaded.facts.deferred =
                    context.pacer.but_for_deadline(webhook, *deferred, started_at);
                loaded
            }),
            Admission::Unreadable => Some(Known::unreadable().loaded(context, *delivery, groups)),
            Admission::Permit(_) | Admission::Soon(_) | Admission::Unneeded => None,
        });
    }
    if !dues.is_empty() {
        ask_directory(context, loaded.iter_mut().flatten().collect()).await?;
    }
    let is_put_off = |loaded: &Loaded<'_>| matches!(decide(&loaded.facts), Decision::Defer(_));
    Ok(loaded.into_iter().map(|loaded| loaded.filter(is_put_off)).collect())
}

/// Takes leases on deliveries, and loads them.
async fn load_leased<'a>(
    context: &Context,
    deliveries: &[DueDelivery],
    admissions: Vec<Admission>,
    groups: &'a [DeliveryGroup],
) -> Result<Vec<Loaded<'a>>, WorkerError> {
    let dues: Vec<AttemptRef> = deliveries.iter().map(|delivery| delivery.due).collect();
    if dues.is_empty() {
        return Ok(Vec::new());
    }
    let (claims, held) = context.claim(&dues).await?;
    failpoint!(WorkerBegins, &dues);
    // The histories are read after the lease is granted, so that they include what was recorded just
    // before it.
    let known = read(context, &dues, INLINE).await?;
    let mut loaded: Vec<Loaded<'_>> = deliveries
        .iter()
        .zip(admissions)
        .zip(claims.into_iter().zip(known))
        .map(|((delivery, admission), (claim, known))| {
            let mut loaded = known.loaded(context, *delivery, groups);
            (loaded.admission, loaded.from) = (admission, held.from);
            loaded.facts.lease = match claim {
                Claim::Ours(unrecorded) => LeaseAnswer::Granted(unrecorded),
                Claim::HeldElsewhere => LeaseAnswer::HeldElsewhere,
                Claim::HolderGone => LeaseAnswer::HolderGone,
                Claim::Past => LeaseAnswer::Past,
            };
            loaded.held = matches!(claim, Claim::Ours(_)).then_some(held);
            loaded
        })
        .collect();
    ask_directory(context, loaded.iter_mut().collect()).await?;
    let ours = loaded.iter().filter(|loaded| loaded.held.is_some());
    failpoint!(WorkerReads, ours.map(|loaded| loaded.delivery.due));
    Ok(loaded)
}

/// Loads a delivery again, under the lease that it has.
pub(crate) async fn reload(context: &Context, loaded: &mut Loaded<'_>) -> Result<(), WorkerError> {
    let delivery = loaded.delivery;
    let known = read(context, &[delivery.due], INLINE).await?.pop();
    let Loaded { facts, series, webhook, content, .. } =
        known.ok_or(WorkerError::Incomplete)?.loaded(context, delivery, loaded.groups);
    loaded.facts = Facts { lease: loaded.facts.lease, ..facts };
    (loaded.series, loaded.webhook, loaded.content) = (series, webhook, content);
    ask_directory(context, vec![loaded]).await
}

/// What the ledger and the cache have about a delivery.
pub(crate) struct Known {
    pub(crate) history: DeliveryHistory,
    pub(crate) webhook: Option<Arc<Webhook>>,
    state: WebhookState,
}

/// Reads the histories of deliveries and their webhooks, in the order of `dues`. A history has its
/// notifications if these have at most `inline` bytes.
pub(crate) async fn read(
    context: &Context,
    dues: &[AttemptRef],
    inline: usize,
) -> Result<Vec<Known>, WorkerError> {
    if dues.is_empty() {
        return Ok(Vec::new());
    }
    let store = &context.config.store;
    let histories =
        context.retry_until_available(|| store.delivery_histories(dues, inline)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
    let known = |(history, id)| {
        let (webhook, state) = found.of(id);
        Known { history, webhook, state }
    };
    Ok(histories.into_iter().zip(ids).map(known).collect())
}

impl Known {
    /// For a delivery whose webhook can't be read, so that nothing was read about it.
    fn unreadable() -> Self {
        let events = Vec::new();
        let history =
            DeliveryHistory { last: None, events, revision: 0, late_at: None, held: false };
        Self { history, webhook: None, state: WebhookState::Unreadable }
    }

    fn loaded<'a>(
        self,
        context: &Context,
        delivery: DueDelivery,
        groups: &'a [DeliveryGroup],
    ) -> Loaded<'a> {
        let Self { history, webhook, state } = self;
        let series = RetrySeries::of(&history);
        let last = history.last.as_ref().map(|last| LastRow {
            sequence: last.entry,
            state: last.state,
            next_attempt_at: last.next_attempt_at,
        });
        let facts = Facts {
            now: context.now(),
            sequence: delivery.due.sequence,
            redelivered: delivery.redelivered,
            lease: LeaseAnswer::NotAsked,
            planned_at: history.events.first().map(|event| event.received_at),
            last,
            started_at: series.started_at,
            webhook: state,
            // Until the directory has answered.
            owner: OwnerState::Deleted,
            directory_held: history.held,
            events: history.events.len(),
            payload_removed: history.events.iter().any(PlannedEvent::is_removed),
            denied: None,
            deferred: None,
            shadow: context.config.shadow,
            deadline: context.config.policy.deadline,
        };
        Loaded {
            delivery,
            facts,
            series,
            webhook,
            content: Content::Ledger(Box::new(history)),
            groups,
            admission: Admission::Unneeded,
            held: None,
            from: Instant::now(),
        }
    }
}

impl Found {
    fn of(&self, id: WebhookId) -> (Option<Arc<Webhook>>, WebhookState) {
        match self.webhooks.get(&id) {
            Some(webhook) if webhook.paused => (Some(Arc::clone(webhook)), WebhookState::Paused),
            Some(webhook) => (Some(Arc::clone(webhook)), WebhookState::Active),
            None if self.unreadable.contains(&id) => (None, WebhookState::Unreadable),
            None => (None, WebhookState::Deleted),
        }
    }
}
