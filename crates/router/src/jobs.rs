//! What workers are asked to do: plans packed into messages.

use fanfare_broker::{Destination, Message, Queue};
use fanfare_core::event::Event;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{Addressee, Due, Job, MAX_DELIVERIES, Unit};
use fanfare_store::routing::Routed;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A job's notifications stay below this: a worker holds hundreds of jobs. What is larger is not
/// carried by the broker a second time; workers read it from the ledger when they send it.
const MAX_BYTES: usize = 64 * 1024;

type Outgoing = Vec<(Destination, Message)>;

/// The unit of a message's events that are new; `None` when nobody gets any.
pub(crate) fn unit(batch: BatchKey, results: Vec<(&Event, Routed)>) -> Option<Unit> {
    let mut only: BTreeMap<WebhookId, Vec<usize>> = BTreeMap::new();
    let mut unit = None;
    for (event, routed) in results {
        let Routed::Taken { webhooks, received_at } = routed else {
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

/// Packs units into jobs: many small ones into one, a wide one into several.
pub(crate) fn fresh(units: Vec<Unit>) -> Result<Outgoing, serde_json::Error> {
    let mut jobs = Outgoing::new();
    let mut pack = Vec::new();
    let (mut deliveries, mut bytes) = (0, 0);
    let (large, units): (Vec<Unit>, Vec<Unit>) =
        units.into_iter().partition(|unit| size(unit) > MAX_BYTES);
    for due in large.iter().flat_map(dues_of) {
        jobs.push(message(Queue::Retries, &Job::First(vec![due]))?);
    }
    for part in units.into_iter().flat_map(split) {
        let (more, size) = (part.deliveries.len(), size(&part));
        if !pack.is_empty() && (deliveries + more > MAX_DELIVERIES || bytes + size > MAX_BYTES) {
            jobs.push(message(Queue::Deliveries, &Job::Fresh(std::mem::take(&mut pack)))?);
            (deliveries, bytes) = (0, 0);
        }
        (deliveries, bytes) = (deliveries + more, bytes + size);
        pack.push(part);
    }
    if !pack.is_empty() {
        jobs.push(message(Queue::Deliveries, &Job::Fresh(pack))?);
    }
    Ok(jobs)
}

/// The first attempts of a unit, as due ones.
fn dues_of(unit: &Unit) -> impl Iterator<Item = Due> + '_ {
    unit.deliveries.iter().map(|to| Due { batch: unit.batch, webhook: to.webhook, entry: 1 })
}

/// Jobs for first attempts that may be on their way already.
pub(crate) fn copies(dues: &[Due]) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[Due]| message(Queue::Deliveries, &Job::Copy(chunk.to_vec()));
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

/// Jobs for attempts whose time has come.
pub(crate) fn due(dues: &[Due]) -> Result<Outgoing, serde_json::Error> {
    let job = |chunk: &[Due]| message(Queue::Retries, &Job::Due(chunk.to_vec()));
    dues.chunks(MAX_DELIVERIES).map(job).collect()
}

fn message(queue: Queue, job: &Job) -> Result<(Destination, Message), serde_json::Error> {
    Ok((queue.into(), Message::new(job.to_bytes()?, "application/json")))
}

/// Splits a unit that has more deliveries than a job takes.
fn split(mut unit: Unit) -> Vec<Unit> {
    let mut parts = Vec::new();
    while unit.deliveries.len() > MAX_DELIVERIES {
        let rest = unit.deliveries.split_off(MAX_DELIVERIES);
        let deliveries = std::mem::replace(&mut unit.deliveries, rest);
        parts.push(Unit {
            batch: unit.batch,
            received_at: unit.received_at,
            traceparent: unit.traceparent.clone(),
            event_ids: unit.event_ids.clone(),
            notifications: unit.notifications.clone(),
            deliveries,
        });
    }
    parts.push(unit);
    parts
}

fn size(unit: &Unit) -> usize {
    unit.notifications.iter().map(|notification| notification.get().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
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
        let jobs = fresh(units).unwrap();
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
    fn what_is_large_goes_by_reference() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        let unit =
            Unit { notifications: vec![RawValue::from_string(large).unwrap()], ..unit_for(3) };
        let jobs = fresh(vec![unit, unit_for(1)]).unwrap();
        let queues: Vec<&Destination> = jobs.iter().map(|(to, _)| to).collect();
        let due = Destination::from(Queue::Retries);
        assert_eq!(queues, [&due, &due, &due, &Queue::Deliveries.into()]);
        assert!(jobs.iter().all(|(_, message)| message.body.len() < 1000));
    }
}
