//! Jobs for workers: packs plans into messages, and spreads them over the delivery queues.

use chrono::{DateTime, Utc};
use fanfare_broker::job::set_queued_at;
use fanfare_broker::{Destination, Message, Queue};
use fanfare_core::event::Event;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{AttemptRef, DeliveryGroup, Job, MAX_DELIVERIES, Recipient};
use fanfare_core::shard::{Shard, ShardCount};
use fanfare_store::routing::Routed;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use crate::outgoing::Outgoing;

/// The most bytes of notifications in a job, because a worker holds hundreds of jobs. Larger events
/// are sent by reference: workers read them from the ledger.
const MAX_BYTES: usize = 64 * 1024;

/// The group of a message's new events; `None` when no webhook gets any.
pub(crate) fn group(batch: BatchKey, results: Vec<(&Event, Routed)>) -> Option<DeliveryGroup> {
    let mut only: BTreeMap<WebhookId, Vec<usize>> = BTreeMap::new();
    let mut group = None;
    for (event, routed) in results {
        let Routed::Accepted { webhooks, received_at } = routed else {
            continue;
        };
        let group = group.get_or_insert_with(|| DeliveryGroup {
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
            only.entry(webhook).or_default().push(group.notifications.len());
        }
        group.event_ids.push(event.id.clone());
        group.notifications.push(notification);
    }
    let mut group = group?;
    let all = group.notifications.len();
    let recipient = |(webhook, only): (WebhookId, Vec<usize>)| Recipient {
        webhook,
        only: (only.len() < all).then_some(only),
    };
    group.deliveries = only.into_iter().map(recipient).collect();
    (!group.deliveries.is_empty()).then_some(group)
}

/// Packs groups into jobs for the delivery queues: many small groups into one job, a wide group into
/// several.
pub(crate) fn inline(
    groups: Vec<DeliveryGroup>,
    shards: ShardCount,
) -> Result<Outgoing, serde_json::Error> {
    let mut jobs = Outgoing::new();
    let mut packs: BTreeMap<Shard, Pack> = BTreeMap::new();
    let (large, groups): (Vec<DeliveryGroup>, Vec<DeliveryGroup>) =
        groups.into_iter().partition(|group| size(group) > MAX_BYTES);
    for group in &large {
        for due in group.first_attempts() {
            let job = Job::FirstByReference(vec![due]);
            jobs.push(message(Queue::Retries, &job, Some(group.received_at))?);
        }
    }
    let parts = groups.into_iter().flat_map(|group| by_queue(group, shards));
    for (shard, part) in parts.flat_map(|(shard, part)| split(part).map(move |it| (shard, it))) {
        let pack = packs.entry(shard).or_default();
        if !pack.has_room_for(&part) {
            let full = std::mem::take(pack);
            jobs.push(full.message(shard)?);
        }
        pack.add(part);
    }
    for (shard, pack) in packs {
        jobs.push(pack.message(shard)?);
    }
    Ok(jobs)
}

/// A job that is being packed.
#[derive(Default)]
struct Pack {
    groups: Vec<DeliveryGroup>,
    deliveries: usize,
    bytes: usize,
}

impl Pack {
    fn has_room_for(&self, group: &DeliveryGroup) -> bool {
        let deliveries = self.deliveries + group.deliveries.len();
        let fits = deliveries <= MAX_DELIVERIES && self.bytes + size(group) <= MAX_BYTES;
        self.groups.is_empty() || fits
    }

    /// The job's message. The time of its newest event counts as its enqueue time.
    fn message(self, shard: Shard) -> Result<(Destination, Message), serde_json::Error> {
        let at = self.groups.iter().map(|group| group.received_at).max();
        message(Queue::Deliveries(shard), &Job::FirstInline(self.groups), at)
    }

    fn add(&mut self, group: DeliveryGroup) {
        self.deliveries += group.deliveries.len();
        self.bytes += size(&group);
        self.groups.push(group);
    }
}

/// Rechecks of first attempts whose jobs may be in a queue already. Each goes through the same queue as
/// that job.
pub(crate) fn rechecks(
    dues: &[AttemptRef],
    shards: ShardCount,
) -> Result<Outgoing, serde_json::Error> {
    let mut spread: BTreeMap<Shard, Vec<AttemptRef>> = BTreeMap::new();
    for due in dues {
        spread.entry(shards.of(due.webhook)).or_default().push(*due);
    }
    let mut jobs = Outgoing::new();
    for (shard, dues) in spread {
        for chunk in dues.chunks(MAX_DELIVERIES) {
            jobs.push(message(Queue::Deliveries(shard), &Job::Recheck(chunk.to_vec()), None)?);
        }
    }
    Ok(jobs)
}

/// Jobs for first attempts whose earlier jobs are surely done or lost.
pub(crate) fn first(dues: &[AttemptRef], at: DateTime<Utc>) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[AttemptRef]| {
        message(Queue::Retries, &Job::FirstByReference(chunk.to_vec()), Some(at))
    };
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

/// Jobs for later attempts that are due at `at`.
pub(crate) fn later(dues: &[AttemptRef], at: DateTime<Utc>) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[AttemptRef]| message(Queue::Retries, &Job::Retry(chunk.to_vec()), Some(at));
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

fn message(
    queue: Queue,
    job: &Job,
    at: Option<DateTime<Utc>>,
) -> Result<(Destination, Message), serde_json::Error> {
    let mut message = fanfare_broker::job::message(job)?;
    if let Some(at) = at {
        set_queued_at(&mut message, at);
    }
    Ok((queue.into(), message))
}

/// Splits a group by the queues of its webhooks.
fn by_queue(mut group: DeliveryGroup, shards: ShardCount) -> Vec<(Shard, DeliveryGroup)> {
    let mut spread: BTreeMap<Shard, Vec<Recipient>> = BTreeMap::new();
    for to in std::mem::take(&mut group.deliveries) {
        spread.entry(shards.of(to.webhook)).or_default().push(to);
    }
    // The last part takes the group itself. With a single queue, that is the only part.
    let last = spread.pop_last();
    let mut parts: Vec<(Shard, DeliveryGroup)> =
        spread.into_iter().map(|(shard, deliveries)| (shard, part(&group, deliveries))).collect();
    parts.extend(last.map(|(shard, deliveries)| (shard, DeliveryGroup { deliveries, ..group })));
    parts
}

/// Splits a group that has more deliveries than a job may have.
fn split(mut group: DeliveryGroup) -> impl Iterator<Item = DeliveryGroup> {
    let mut parts = Vec::new();
    while group.deliveries.len() > MAX_DELIVERIES {
        let rest = group.deliveries.split_off(MAX_DELIVERIES);
        let deliveries = std::mem::replace(&mut group.deliveries, rest);
        parts.push(part(&group, deliveries));
    }
    parts.push(group);
    parts.into_iter()
}

/// The same group for some of its webhooks.
fn part(group: &DeliveryGroup, deliveries: Vec<Recipient>) -> DeliveryGroup {
    DeliveryGroup {
        batch: group.batch,
        received_at: group.received_at,
        traceparent: group.traceparent.clone(),
        event_ids: group.event_ids.clone(),
        notifications: group.notifications.clone(),
        deliveries,
    }
}

fn size(group: &DeliveryGroup) -> usize {
    group.notifications.iter().map(|notification| notification.get().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn group_for(webhooks: usize) -> DeliveryGroup {
        let recipient =
            |n: usize| Recipient { webhook: WebhookId(Uuid::from_u128(n as u128)), only: None };
        DeliveryGroup {
            batch: BatchKey(Uuid::from_u128(1)),
            received_at: DateTime::UNIX_EPOCH,
            traceparent: None,
            event_ids: vec!["1".to_owned()],
            notifications: vec![RawValue::from_string("{}".to_owned()).unwrap()],
            deliveries: (0..webhooks).map(recipient).collect(),
        }
    }

    fn widths(groups: Vec<DeliveryGroup>) -> Vec<usize> {
        let jobs = inline(groups, ShardCount::ONE).unwrap();
        let width = |(_, message): &(Destination, Message)| match Job::from_bytes(&message.body) {
            Ok(Job::FirstInline(groups)) => groups.iter().map(|group| group.deliveries.len()).sum(),
            other => panic!("expected a fresh job, got {other:?}"),
        };
        jobs.iter().map(width).collect()
    }

    #[test]
    fn wide_plans_are_split_and_small_ones_share_a_job() {
        assert_eq!(widths(vec![group_for(150)]), [64, 64, 22]);
        assert_eq!(widths(vec![group_for(1), group_for(2), group_for(62)]), [3, 62]);
        assert!(widths(Vec::new()).is_empty());
    }

    #[test]
    fn jobs_over_64_kib_are_sent_by_reference() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        let group = DeliveryGroup {
            notifications: vec![RawValue::from_string(large).unwrap()],
            ..group_for(3)
        };
        let jobs = inline(vec![group, group_for(1)], ShardCount::ONE).unwrap();
        let queues: Vec<&Destination> = jobs.iter().map(|(to, _)| to).collect();
        let due = Destination::from(Queue::Retries);
        assert_eq!(queues, [&due, &due, &due, &Queue::DELIVERIES.into()]);
        assert!(jobs.iter().all(|(_, message)| message.body.len() < 1000));
    }

    /// The number of the queue that each job goes to, and the webhooks in it.
    fn webhooks(jobs: &Outgoing) -> Vec<(u8, Vec<WebhookId>)> {
        let one = |(to, message): &(Destination, Message)| {
            let Destination::Queue(Queue::Deliveries(shard)) = to else {
                panic!("expected a delivery queue, got {to:?}");
            };
            let webhooks = match Job::from_bytes(&message.body).unwrap() {
                Job::FirstInline(groups) => {
                    groups.iter().flat_map(|group| &group.deliveries).map(|to| to.webhook).collect()
                }
                Job::Recheck(dues) => dues.iter().map(|due| due.webhook).collect(),
                other => panic!("expected first attempts, got {other:?}"),
            };
            (shard.number(), webhooks)
        };
        jobs.iter().map(one).collect()
    }

    #[test]
    fn jobs_and_their_rechecks_use_the_same_of_several_queues() {
        let shards = ShardCount::new(4).unwrap();
        let group = group_for(400);
        let dues: Vec<AttemptRef> = group.first_attempts().collect();
        for jobs in [inline(vec![group], shards).unwrap(), rechecks(&dues, shards).unwrap()] {
            let jobs = webhooks(&jobs);
            for (number, webhooks) in &jobs {
                assert!((1..=MAX_DELIVERIES).contains(&webhooks.len()));
                assert!(webhooks.iter().all(|it| shards.of(*it).number() == *number));
            }
            let used: BTreeSet<u8> = jobs.iter().map(|(number, _)| *number).collect();
            assert_eq!(Vec::from_iter(used), [1, 2, 3, 4]);
            let mut all: Vec<WebhookId> = jobs.into_iter().flat_map(|(_, it)| it).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(dues.iter().map(|due| due.webhook)));
        }
        // Small ones of one queue share a job there.
        let small = || group_for(1);
        assert_eq!(inline(vec![small(), small(), small()], shards).unwrap().len(), 1);
    }
}
