//! Jobs for workers: packs plans into messages, and spreads them over the delivery queues.

use chrono::{DateTime, Utc};
use fanfare_broker::job::set_queued_at;
use fanfare_broker::{Destination, Message, Queue};
use fanfare_core::event::Event;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{Addressee, Due, Job, MAX_DELIVERIES, Unit};
use fanfare_core::share::{Share, Shares};
use fanfare_store::routing::Routed;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The most bytes of notifications in a job, because a worker holds hundreds of jobs. Larger events
/// are sent by reference: workers read them from the ledger.
const MAX_BYTES: usize = 64 * 1024;

type Outgoing = Vec<(Destination, Message)>;

/// The unit of a message's new events; `None` when no webhook gets any.
pub(crate) fn unit(batch: BatchKey, results: Vec<(&Event, Routed)>) -> Option<Unit> {
    let mut only: BTreeMap<WebhookId, Vec<usize>> = BTreeMap::new();
    let mut unit = None;
    for (event, routed) in results {
        let Routed::Accepted { webhooks, received_at } = routed else {
            continue;
        };
        let unit = unit.get_or_insert_with(|| Unit {
            batch,
            received_at,
            traceparent: event.traceparent.clone(),
            event_ids: Vec::new(),
            notifications: Vec::new(),
            deliveries: Vec::new(),
        });
        let Ok(notification) = RawValue::from_string(event.notification.clone()) else {
            continue;
        };
        for webhook in webhooks {
            only.entry(webhook).or_default().push(unit.notifications.len());
        }
        unit.event_ids.push(event.id.clone());
        unit.notifications.push(notification);
    }
    let mut unit = unit?;
    let all = unit.notifications.len();
    let addressee = |(webhook, only): (WebhookId, Vec<usize>)| Addressee {
        webhook,
        only: (only.len() < all).then_some(only),
    };
    unit.deliveries = only.into_iter().map(addressee).collect();
    (!unit.deliveries.is_empty()).then_some(unit)
}

/// Packs units into jobs for the delivery queues: many small units into one job, a wide unit into
/// several.
pub(crate) fn inline(units: Vec<Unit>, shares: Shares) -> Result<Outgoing, serde_json::Error> {
    let mut jobs = Outgoing::new();
    let mut packs: BTreeMap<Share, Pack> = BTreeMap::new();
    let (large, units): (Vec<Unit>, Vec<Unit>) =
        units.into_iter().partition(|unit| size(unit) > MAX_BYTES);
    for unit in &large {
        for due in attempt_refs(unit) {
            let job = Job::First(vec![due]);
            jobs.push(message(Queue::Retries, &job, Some(unit.received_at))?);
        }
    }
    let parts = units.into_iter().flat_map(|unit| by_queue(unit, shares));
    for (share, part) in parts.flat_map(|(share, part)| split(part).map(move |it| (share, it))) {
        let pack = packs.entry(share).or_default();
        if !pack.has_room_for(&part) {
            let full = std::mem::take(pack);
            jobs.push(full.message(share)?);
        }
        pack.add(part);
    }
    for (share, pack) in packs {
        jobs.push(pack.message(share)?);
    }
    Ok(jobs)
}

/// A job that is being packed.
#[derive(Default)]
struct Pack {
    units: Vec<Unit>,
    deliveries: usize,
    bytes: usize,
}

impl Pack {
    fn has_room_for(&self, unit: &Unit) -> bool {
        let deliveries = self.deliveries + unit.deliveries.len();
        let fits = deliveries <= MAX_DELIVERIES && self.bytes + size(unit) <= MAX_BYTES;
        self.units.is_empty() || fits
    }

    /// The job's message. The time of its newest event counts as its enqueue time.
    fn message(self, share: Share) -> Result<(Destination, Message), serde_json::Error> {
        let at = self.units.iter().map(|unit| unit.received_at).max();
        message(Queue::Deliveries(share), &Job::Fresh(self.units), at)
    }

    fn add(&mut self, unit: Unit) {
        self.deliveries += unit.deliveries.len();
        self.bytes += size(&unit);
        self.units.push(unit);
    }
}

/// The first attempts of a unit, by reference.
fn attempt_refs(unit: &Unit) -> impl Iterator<Item = Due> + '_ {
    unit.deliveries.iter().map(|to| Due { batch: unit.batch, webhook: to.webhook, entry: 1 })
}

/// Rechecks of first attempts whose jobs may be in a queue already. Each goes through the same queue as
/// that job.
pub(crate) fn rechecks(dues: &[Due], shares: Shares) -> Result<Outgoing, serde_json::Error> {
    let mut spread: BTreeMap<Share, Vec<Due>> = BTreeMap::new();
    for due in dues {
        spread.entry(shares.of(due.webhook)).or_default().push(*due);
    }
    let mut jobs = Outgoing::new();
    for (share, dues) in spread {
        for chunk in dues.chunks(MAX_DELIVERIES) {
            jobs.push(message(Queue::Deliveries(share), &Job::Copy(chunk.to_vec()), None)?);
        }
    }
    Ok(jobs)
}

/// Jobs for first attempts whose earlier jobs are surely done or lost.
pub(crate) fn first(dues: &[Due], at: DateTime<Utc>) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[Due]| message(Queue::Retries, &Job::First(chunk.to_vec()), Some(at));
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

/// Jobs for later attempts that are due at `at`.
pub(crate) fn later(dues: &[Due], at: DateTime<Utc>) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[Due]| message(Queue::Retries, &Job::Due(chunk.to_vec()), Some(at));
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

fn message(
    queue: Queue,
    job: &Job,
    at: Option<DateTime<Utc>>,
) -> Result<(Destination, Message), serde_json::Error> {
    let mut message = Message::new(job.to_bytes()?, "application/json");
    if let Some(at) = at {
        set_queued_at(&mut message, at);
    }
    Ok((queue.into(), message))
}

/// Splits a unit by the queues of its webhooks.
fn by_queue(mut unit: Unit, shares: Shares) -> Vec<(Share, Unit)> {
    let mut spread: BTreeMap<Share, Vec<Addressee>> = BTreeMap::new();
    for to in std::mem::take(&mut unit.deliveries) {
        spread.entry(shares.of(to.webhook)).or_default().push(to);
    }
    // The last part takes the unit itself. With a single queue, that is the only part.
    let last = spread.pop_last();
    let mut parts: Vec<(Share, Unit)> =
        spread.into_iter().map(|(share, deliveries)| (share, part(&unit, deliveries))).collect();
    parts.extend(last.map(|(share, deliveries)| (share, Unit { deliveries, ..unit })));
    parts
}

/// Splits a unit that has more deliveries than a job may have.
fn split(mut unit: Unit) -> impl Iterator<Item = Unit> {
    let mut parts = Vec::new();
    while unit.deliveries.len() > MAX_DELIVERIES {
        let rest = unit.deliveries.split_off(MAX_DELIVERIES);
        let deliveries = std::mem::replace(&mut unit.deliveries, rest);
        parts.push(part(&unit, deliveries));
    }
    parts.push(unit);
    parts.into_iter()
}

/// The same unit for some of its webhooks.
fn part(unit: &Unit, deliveries: Vec<Addressee>) -> Unit {
    Unit {
        batch: unit.batch,
        received_at: unit.received_at,
        traceparent: unit.traceparent.clone(),
        event_ids: unit.event_ids.clone(),
        notifications: unit.notifications.clone(),
        deliveries,
    }
}

fn size(unit: &Unit) -> usize {
    unit.notifications.iter().map(|notification| notification.get().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn unit_for(webhooks: usize) -> Unit {
        let addressee =
            |n: usize| Addressee { webhook: WebhookId(Uuid::from_u128(n as u128)), only: None };
        Unit {
            batch: BatchKey(Uuid::from_u128(1)),
            received_at: DateTime::UNIX_EPOCH,
            traceparent: None,
            event_ids: vec!["1".to_owned()],
            notifications: vec![RawValue::from_string("{}".to_owned()).unwrap()],
            deliveries: (0..webhooks).map(addressee).collect(),
        }
    }

    fn widths(units: Vec<Unit>) -> Vec<usize> {
        let jobs = inline(units, Shares::ONE).unwrap();
        let width = |(_, message): &(Destination, Message)| match Job::from_bytes(&message.body) {
            Ok(Job::Fresh(units)) => units.iter().map(|unit| unit.deliveries.len()).sum(),
            other => panic!("expected a fresh job, got {other:?}"),
        };
        jobs.iter().map(width).collect()
    }

    #[test]
    fn wide_plans_are_split_and_small_ones_share_a_job() {
        assert_eq!(widths(vec![unit_for(150)]), [64, 64, 22]);
        assert_eq!(widths(vec![unit_for(1), unit_for(2), unit_for(62)]), [3, 62]);
        assert!(widths(Vec::new()).is_empty());
    }

    #[test]
    fn jobs_over_64_kib_are_sent_by_reference() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        let unit =
            Unit { notifications: vec![RawValue::from_string(large).unwrap()], ..unit_for(3) };
        let jobs = inline(vec![unit, unit_for(1)], Shares::ONE).unwrap();
        let queues: Vec<&Destination> = jobs.iter().map(|(to, _)| to).collect();
        let due = Destination::from(Queue::Retries);
        assert_eq!(queues, [&due, &due, &due, &Queue::DELIVERIES.into()]);
        assert!(jobs.iter().all(|(_, message)| message.body.len() < 1000));
    }

    /// The number of the queue that each job goes to, and the webhooks in it.
    fn webhooks(jobs: &Outgoing) -> Vec<(u8, Vec<WebhookId>)> {
        let one = |(to, message): &(Destination, Message)| {
            let Destination::Queue(Queue::Deliveries(share)) = to else {
                panic!("expected a delivery queue, got {to:?}");
            };
            let webhooks = match Job::from_bytes(&message.body).unwrap() {
                Job::Fresh(units) => {
                    units.iter().flat_map(|unit| &unit.deliveries).map(|to| to.webhook).collect()
                }
                Job::Copy(dues) => dues.iter().map(|due| due.webhook).collect(),
                other => panic!("expected first attempts, got {other:?}"),
            };
            (share.number(), webhooks)
        };
        jobs.iter().map(one).collect()
    }

    #[test]
    fn jobs_and_their_rechecks_use_the_same_of_several_queues() {
        let shares = Shares::new(4).unwrap();
        let unit = unit_for(400);
        let dues: Vec<Due> = attempt_refs(&unit).collect();
        for jobs in [inline(vec![unit], shares).unwrap(), rechecks(&dues, shares).unwrap()] {
            let jobs = webhooks(&jobs);
            for (number, webhooks) in &jobs {
                assert!((1..=MAX_DELIVERIES).contains(&webhooks.len()));
                assert!(webhooks.iter().all(|it| shares.of(*it).number() == *number));
            }
            let used: BTreeSet<u8> = jobs.iter().map(|(number, _)| *number).collect();
            assert_eq!(Vec::from_iter(used), [1, 2, 3, 4]);
            let mut all: Vec<WebhookId> = jobs.into_iter().flat_map(|(_, it)| it).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(dues.iter().map(|due| due.webhook)));
        }
        // Small ones of one queue share a job there.
        let small = || unit_for(1);
        assert_eq!(inline(vec![small(), small(), small()], shares).unwrap().len(), 1);
    }
}
